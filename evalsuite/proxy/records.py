"""What a proxy measurement is, whichever tool made it, and the standard errors that chunks of text allow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ChunkMeans(NamedTuple):
    """Means over the scored tokens of one chunk: nats; shares for `rms_dp` and `same_top_p`. NaN where undefined."""

    ln_ppl: float
    ln_ppl_ratio: float
    kld: float
    rms_dp: float
    same_top_p: float


@dataclass(frozen=True)
class ProxyRow:
    """One quant on one corpus by one tool, with the names of llama-perplexity.

    KLD and ln PPL are in nats; `rms_dp`, `mean_dp`, `same_top_p` and `correlation` (of ln p by token) are shares,
    not percents. Every `_se` takes chunks as the independent units, since the tokens of one text are not independent;
    `mean_dp_se` needs Δp by chunk, which llama-perplexity does not print. None is undefined, and `notes` says why.
    `ctx` counts the tokens of a chunk, `n_tokens` all that are scored.
    """

    tool: str
    corpus: str
    corpus_sha256: str
    ctx: int
    chunks: int
    n_tokens: int
    ppl: float | None = None
    ppl_se: float | None = None
    ppl_base: float | None = None
    ppl_ratio: float | None = None
    ln_ppl_ratio: float | None = None
    ln_ppl_ratio_se: float | None = None
    kld_mean: float | None = None
    kld_mean_se: float | None = None
    kld_median: float | None = None
    kld_p90: float | None = None
    kld_p95: float | None = None
    kld_p99: float | None = None
    kld_p999: float | None = None
    kld_max: float | None = None
    kld_min: float | None = None
    rms_dp: float | None = None
    rms_dp_se: float | None = None
    mean_dp: float | None = None
    mean_dp_se: float | None = None
    same_top_p: float | None = None
    same_top_p_se: float | None = None
    correlation: float | None = None
    chunk_means: tuple[ChunkMeans, ...] = ()
    notes: tuple[str, ...] = ()


def chunk_se(chunks: Sequence[ChunkMeans]) -> ChunkMeans:
    """Return the standard errors of the means over all tokens, from equally long chunks: sd / √C, ddof 1.

    The error of the root mean square comes from that of the mean square: SE(mse) / (2 · rms). NaN with fewer than two
    chunks, and wherever a chunk is NaN.
    """
    if len(chunks) < 2:
        return ChunkMeans(*[float("nan")] * 5)
    means = np.array(chunks)
    rms_column = ChunkMeans._fields.index("rms_dp")
    means[:, rms_column] **= 2
    errors = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    rms = float(np.sqrt(means[:, rms_column].mean()))
    errors[rms_column] = errors[rms_column] / (2 * rms) if rms else np.nan
    return ChunkMeans(*errors.tolist())


def finite(value: float) -> float | None:
    """Return None for a number that is not one."""
    return value if math.isfinite(value) else None
