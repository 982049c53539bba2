"""The proxies as columns over the quants: what each is called, which way it points, and its values chunk by chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.stats.mean import FloatArray, weighted_values

Row = dict[str, Any]

DAMAGE_SIGN = {
    "ppl": 1, "ppl_ratio": 1, "kld_mean": 1, "kld_median": 1, "kld_p99": 1, "kld_p999": 1, "kld_max": 1, "rms_dp": 1,
    "same_top_p": -1, "size_bytes": -1,
}  # fmt: skip
"""The proxies, and whether a larger value is to mean more damage (1) or less (−1)."""

NO_KEY = ("kld_max",)
"""No proxy to rank by: the maximum is one token and grows with their number."""

CHUNK_OF = {
    "kld_mean": ("kld", 1), "ppl": ("ln_ppl", 1), "ppl_ratio": ("ln_ppl", 1), "rms_dp": ("rms_dp", 2),
    "same_top_p": ("same_top_p", 1),
}  # fmt: skip
"""The column of the chunks table that a proxy is the mean of over all tokens, and the power of it that is averaged."""


PROXY_NAMES = {
    "kld_mean": "mean KLD", "kld_median": "median KLD", "kld_p99": "99 % KLD", "kld_p999": "99.9 % KLD",
    "kld_max": "maximum KLD", "ppl": "perplexity", "ppl_ratio": "perplexity ratio", "rms_dp": "RMS Δp",
    "same_top_p": "same top token", "size_bytes": "file size",
}  # fmt: skip


def proxy_name(name: str, corpus: str | None) -> str:
    """Name a proxy as a reader knows it, with its text."""
    return PROXY_NAMES[name] + (f" on {corpus}" if corpus else "")


@dataclass(frozen=True, eq=False)
class ProxyColumn:
    """One proxy by one tool on one text: `measured` by quant, as printed; `chunks` by quant, larger for more damage.

    The plain mean of `chunks` is that over all tokens, however long each chunk is; they are empty where the tool says nothing
    of the chunks. `draws` by quant are the damage in each draw of the chunks,
    the same chunks for all quants. The size of the file is a proxy as well, without a text.
    """

    proxy: str
    tool: str
    corpus: str | None
    measured: Mapping[str, float]
    chunks: Mapping[str, FloatArray]
    draws: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def key(self) -> Row:
        """What names the column in a row of the analysis."""
        return {"proxy": self.proxy, "tool": self.tool, "corpus": self.corpus}

    def damage(self, quants: Sequence[str]) -> FloatArray:
        """Return a value a quant, larger for more damage; NaN where there is none.

        Two values that a printed table shows as one are one: 12 digits keep the last bit from making a rank.
        """
        return np.array(
            [DAMAGE_SIGN[self.proxy] * float(f"{self.measured.get(quant, np.nan):.12g}") for quant in quants]
        )

    def scaled(self, quants: Sequence[str]) -> FloatArray:
        """Return `damage` with what counts by its ratio (KLD, perplexity) as a logarithm, where all of it is above 0."""
        damage = self.damage(quants)
        positive = self.proxy.startswith(("kld", "ppl")) and bool((damage[~np.isnan(damage)] > 0).all())
        return np.log(damage) if positive else damage

    def chunk_matrix(self, quants: Sequence[str]) -> FloatArray | None:
        """Return quants × chunks, larger for more damage; None where some quant has none."""
        if not quants or not all(quant in self.chunks for quant in quants):
            return None
        return np.stack([self.chunks[quant] for quant in quants])

    def draw_matrix(self, quants: Sequence[str]) -> FloatArray | None:
        """Return draws × quants, larger for more damage; None where nothing can be drawn."""
        if not quants or not all(quant in self.draws for quant in quants):
            return None
        return np.stack([self.draws[quant] for quant in quants], axis=1)


def proxy_columns(proxies: pd.DataFrame, chunks: pd.DataFrame, quants: Sequence[Row]) -> list[ProxyColumn]:
    """Return every proxy that some quant has a value of, in the order of `DAMAGE_SIGN` for each tool and text."""
    values: dict[tuple[str, str | None], dict[str, dict[str, float]]] = {}
    for row in proxies.to_dict("records"):
        corpus = None if pd.isna(row["corpus"]) else str(row["corpus"])
        for name in DAMAGE_SIGN:
            if not pd.isna(row.get(name)):
                by_name = values.setdefault((str(row["tool"]), corpus), {})
                by_name.setdefault(name, {})[str(row["quant"])] = float(row[name])
    columns = [
        ProxyColumn(name, tool, corpus, by_name[name], _chunks(chunks, name, tool, corpus))
        for (tool, corpus), by_name in values.items() for name in DAMAGE_SIGN if name in by_name
    ]  # fmt: skip
    sizes = {row["quant"]: float(row["size_bytes"]) for row in quants if not pd.isna(row["size_bytes"])}
    return columns + ([ProxyColumn("size_bytes", "size", None, sizes, {})] if sizes else [])


def rankings(columns: Sequence[ProxyColumn]) -> list[ProxyColumn]:
    """Return one column for each order of the quants that people choose by.

    The mean KLD, the perplexity and the agreement of the top token on each text; where a text has none of them, what it has.
    The perplexity ratio orders the quants as the perplexity does.
    """
    chosen = []
    texts = dict.fromkeys((column.tool, column.corpus) for column in columns if column.proxy != "size_bytes")
    for text in texts:
        there = {column.proxy: column for column in columns if (column.tool, column.corpus) == text}
        first = [there[name] for name in ("kld_mean", "ppl", "same_top_p") if name in there]
        first += [there["ppl_ratio"]] if "ppl_ratio" in there and "ppl" not in there else []
        chosen += first or [column for name, column in there.items() if name not in NO_KEY]
    return chosen


def _chunks(chunks: pd.DataFrame, proxy: str, tool: str, corpus: str | None) -> dict[str, FloatArray]:
    if proxy not in CHUNK_OF or chunks.empty:
        return {}
    name, power = CHUNK_OF[proxy]
    of_text = chunks[
        (chunks["tool"] == tool) & (chunks["corpus"].isna() if corpus is None else chunks["corpus"] == corpus)
    ]
    # A chunk has the same tokens for every quant; where nobody counted them all chunks are taken to be equally long.
    tokens = of_text.groupby("chunk")["n_tokens"].first().astype(float)
    weights = tokens if tokens.notna().all() else pd.Series(1.0, tokens.index)
    return {
        str(quant): weighted_values(
            DAMAGE_SIGN[proxy] * rows[name].to_numpy(dtype=np.float64) ** power,
            np.asarray(weights[rows["chunk"]], dtype=np.float64),
        )
        for quant, rows in of_text.sort_values("chunk").groupby("quant")
    }
