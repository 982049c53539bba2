"""The three tables that analysis reads, wherever they come from: our store, a web page, another harness."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

SCORE_COLUMNS = ("quant", "task", "score", "n", "se")
CHUNK_COLUMNS = (
    "quant", "corpus", "tool", "chunk", "ln_ppl", "ln_ppl_ratio", "kld", "rms_dp", "same_top_p", "n_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """Everything the analysis needs; no server, no store.

    `quants`, a row a quant: `quant, provider, size_bytes, bpw, sha256, is_reference (bool), replicate_of (name or None),
    status (ok | failed | partial), reason (why not ok)`.
    `tasks`, a row a task: `task, title, chance, version, n_planned`, perhaps `groups` (weights of strata by name).
    `items`, a row a quant × task × sample × repeat: `quant, task, sample_id, repeat, score (NaN where unscored), outcome,
    cluster, answer, margin (log-odds of the right choice in nats, or NaN), output`; those of a run of ours also have
    `stratum`, `metrics` (further metrics of the answer by name, as JSON) and `facts` (what is known of the sample).
    `proxies`, a row a quant × corpus: `quant, corpus, tool`, then any of `ppl, ppl_se, ppl_ratio, kld_mean, kld_mean_se,
    kld_median, kld_p99, kld_p999, kld_max, rms_dp, same_top_p` (nats, or shares in [0, 1]), `n_tokens`.
    `scores`, a row a quant × task whose samples nobody has: `quant, task, score (in [0, 1]), n, se` (NaN where not stated).
    `chunks`, a row a quant × corpus × tool × chunk of the text: `quant, corpus, tool, chunk`, then means over its tokens:
    `ln_ppl, ln_ppl_ratio, kld, rms_dp, same_top_p`, and how many these are, `n_tokens` (NaN: chunks of equal length).
    `header`: `model`, `reference`, and whatever describes the run: builds, settings, hashes, notes.
    """

    quants: pd.DataFrame
    tasks: pd.DataFrame
    items: pd.DataFrame
    proxies: pd.DataFrame
    header: Mapping[str, Any] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SCORE_COLUMNS))
    chunks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CHUNK_COLUMNS))
