"""What a proxy measurement is, whichever tool made it, and what chunks of text allow: their tokens, standard errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evalsuite.errors import SpecError

TAIL = {"kld_median": 0.5, "kld_p99": 0.99, "kld_p999": 0.999}
"""The quantiles of KLD that have a standard error."""

FEWEST_TOKENS = 100
"""Scored tokens below which llama-perplexity prints rows but no final blocks."""


class ChunkMeans(NamedTuple):
    """Means over the `n_tokens` scored tokens of a chunk: nats; shares for `rms_dp` and `same_top_p`. NaN where undefined."""

    ln_ppl: float
    ln_ppl_ratio: float
    kld: float
    rms_dp: float
    same_top_p: float
    n_tokens: int


@dataclass(frozen=True)
class ProxyRow:
    """One quant on one corpus by one tool, with the names of llama-perplexity; `corpus` is None where no text is needed.

    KLD and ln PPL are in nats; `rms_dp`, `mean_dp`, `same_top_p` and `correlation` (of ln p by token) are shares,
    not percents; `pp_tps` and `tg_tps` are tokens a second, read and written. Every `_se` of a text takes chunks as the
    independent units, since the tokens of one text are not independent; `mean_dp_se` needs Δp by chunk, which
    llama-perplexity does not print. None is undefined or not measured, and `notes` says why where it could be expected.
    `ctx` counts the tokens of the longest chunk, `n_tokens` all that are scored.
    """

    tool: str
    corpus: str | None = None
    corpus_sha256: str | None = None
    ctx: int | None = None
    chunks: int | None = None
    n_tokens: int | None = None
    ppl: float | None = None
    ppl_se: float | None = None
    ppl_base: float | None = None
    ppl_ratio: float | None = None
    ln_ppl_ratio: float | None = None
    ln_ppl_ratio_se: float | None = None
    kld_mean: float | None = None
    kld_mean_se: float | None = None
    kld_median: float | None = None
    kld_median_se: float | None = None
    kld_p90: float | None = None
    kld_p95: float | None = None
    kld_p99: float | None = None
    kld_p99_se: float | None = None
    kld_p999: float | None = None
    kld_p999_se: float | None = None
    kld_max: float | None = None
    kld_max_se: float | None = None
    kld_min: float | None = None
    rms_dp: float | None = None
    rms_dp_se: float | None = None
    mean_dp: float | None = None
    mean_dp_se: float | None = None
    same_top_p: float | None = None
    same_top_p_se: float | None = None
    correlation: float | None = None
    pp_tps: float | None = None
    pp_tps_se: float | None = None
    tg_tps: float | None = None
    tg_tps_se: float | None = None
    chunk_means: tuple[ChunkMeans, ...] = ()
    notes: tuple[str, ...] = ()


def scored_tokens(ctx: int) -> int:
    """Return how many tokens of a chunk are scored: all that follow a token of its second half."""
    return ctx - 1 - ctx // 2


def check_groups(chunks: int, groups: int, ctx: int) -> None:
    """Raise SpecError where a group of chunks would have too few tokens for llama-perplexity's statistics."""
    n_scored = chunks // groups * scored_tokens(ctx)
    if groups > 1 and n_scored < FEWEST_TOKENS:
        raise SpecError(
            f"{groups} groups of {chunks} chunks have {n_scored} scored tokens each, and llama-perplexity tells too little of "
            f"fewer than {FEWEST_TOKENS}. Use fewer `groups`, more `chunks` or a longer text."
        )


def chunk_se(chunks: Sequence[ChunkMeans]) -> ChunkMeans:
    """Return the standard errors of the means over all tokens, and the number of these.

    The error of the root mean square comes from that of the mean square: SE(mse) / (2 · rms). NaN with fewer than two
    chunks, and wherever a chunk is NaN.
    """
    *means, tokens = np.array(chunks, float).T
    n_tokens = int(tokens.sum())
    if len(chunks) < 2:
        return ChunkMeans(nan, nan, nan, nan, nan, n_tokens)
    rms_column = ChunkMeans._fields.index("rms_dp")
    means[rms_column] **= 2
    errors = [mean_se(column, tokens) for column in means]
    rms = float(np.sqrt(np.average(means[rms_column], weights=tokens)))
    errors[rms_column] = errors[rms_column] / (2 * rms) if rms else nan
    ln_ppl, ratio, kld, rms_dp, same_top_p = errors
    return ChunkMeans(ln_ppl, ratio, kld, rms_dp, same_top_p, n_tokens)


def mean_se(means: npt.NDArray[np.float64], tokens: npt.ArrayLike) -> float:
    """Return the standard error of the mean over all tokens from the means of at least two chunks.

    √(C/(C−1) · Σ w²(m − m̄)²) with w the chunk's share of the tokens, the linearised error of a ratio (Cochran 1977,
    §6.4): sd/√C, ddof 1, where all are equally long.
    """
    shares = np.asarray(tokens, float) / np.sum(tokens)
    count = len(means)
    return float(np.sqrt(count / (count - 1) * (shares**2 * (means - (shares * means).sum()) ** 2).sum()))


def quantile_se(chunks: Sequence[npt.NDArray[np.float64]], shares: Sequence[float]) -> list[float]:
    """Return the standard errors of quantiles over all tokens, from the tokens' values in at least two chunks.

    The jackknife with a chunk left out at a time. Some 4 tokens should lie beyond a quantile: then it is 1 to 1.2 of the true
    error on simulated lognormal KLD.
    """
    without = np.array([
        np.quantile(np.concatenate([*chunks[:left_out], *chunks[left_out + 1 :]]), shares)
        for left_out in range(len(chunks))
    ])  # fmt: skip
    errors: list[float] = np.sqrt((len(chunks) - 1) * without.var(axis=0)).tolist()
    return errors


def maximum_se(maxima: Sequence[float]) -> float | None:
    """Return a standard error of the largest of the maxima of at least two parts of a text; None where one is not above 0.

    max · sd(ln maxima): exact for a tail that falls as a power, whose shape does not change with the number of tokens,
    and too large for a lighter one. A single token decides it, so it is a rough figure.
    """
    if len(maxima) < 2 or min(maxima) <= 0:
        return None
    return float(max(maxima) * np.log(maxima).std(ddof=1))


def finite(value: float) -> float | None:
    """Return None for a number that is not one."""
    return value if math.isfinite(value) else None
