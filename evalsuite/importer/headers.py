"""How published tables spell their columns, and the names of texts inside those spellings."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

Part = Literal["value", "se", "n", "low", "high"]
Source = Literal["assumed", "plain", "printed"]
"""Of several columns for one number the first by name is read."""


@dataclass(frozen=True)
class Meaning:
    """What a column holds.

    `measure` is a name of `evalsuite.tables` or of LABELS; `about` the text a proxy was measured on ("" where the header
    does not say); `part` what of the measure; `unit` what the header says of it ("" for nothing). `source` tells the
    column as the publisher printed it from the same column as a reader corrected it.
    """

    measure: str
    about: str = ""
    part: Part = "value"
    unit: str = ""
    source: Source = "plain"


_PPL, _KLD = "(?:ppl|perplexity)", "(?:kld|kl_div(?:ergence)?|kl)"


def _percentile(digits: str) -> str:
    percent = f"p?_?(?:{digits})(?:th)?(?:_percentile|_pct)?"
    return f"(?:{_KLD}_{percent}|{percent}_{_KLD})"


PROXIES = {
    "ln_ppl_ratio": f"(?:mean_)?(?:ln|log)_{_PPL}_(?:ratio|q_over_{_PPL}_base)",
    "ppl_ratio": f"(?:mean_)?{_PPL}_(?:ratio|q_over_{_PPL}_base)",
    "ppl_diff": f"(?:mean_)?(?:d_?{_PPL}|delta_{_PPL}|{_PPL}_(?:diff|delta|q_minus_{_PPL}_base))",
    "kld_p999": _percentile("999|99_9|0_999"),
    "kld_p99": _percentile("99|99_0|0_99"),
    "kld_median": f"(?:median_{_KLD}|{_KLD}_median|{_percentile('50|50_0')})",
    "kld_max": f"(?:max(?:imum)?_{_KLD}|{_KLD}_max(?:imum)?)",
    "kld_mean": f"(?:(?:mean|avg|average)_)?{_KLD}(?:_(?:mean|avg))?",
    "ppl": f"(?:(?:mean|final)_)?{_PPL}(?:_(?:mean|q))?",
    "rms_dp": "(?:rms_(?:d_?p|delta_p)|(?:d_?p|delta_p)_rms)",
    "same_top_p": "(?:same_top(?:_1)?(?:_p|_tokens?)?|top_?1_agreement)",
    "top_differ": "top_tokens?_differ",
}
"""Proxies that are measured on a text, under llama-perplexity's names; the first that fits is meant."""

_PER_SECOND = "(?:_tps|_t(?:ok(?:ens)?)?_(?:over_s|per_second))"

OTHERS = {
    "pp_tps": rf"pp_?\d*{_PER_SECOND}|pp_?\d+",
    "tg_tps": rf"tg_?\d*{_PER_SECOND}|tg_?\d+",
    "n_tokens": "(?:n_)?tokens",
    "ctx": "(?:n_)?ctx",
    "chunks": "(?:n_)?chunks",
    "bpw": "bpw|bits_(?:per|over)_weight",
    "size_bytes": r"(?:(?:disk|file|model|gguf)_)*(?:size|disk)(?:_on_disk)?(?:_(?P<unit>[gm]i?b|bytes))?(?:_excl_\w+)?"
    r"|(?P<alone>[gm]i?b)",
}
"""Numbers of a quant that need no text."""

LABELS = {
    "quant": r"quants?|quanti[sz]ation|quant(?:i[sz]ation)?_(?:level|type|name|method)|gguf|file_?name|file|what|ggml_type"
    "|type|level|name",
    "provider": "provider|quanti[sz]er|uploader|author|maker|family|format",
    "model": "model(?:_name)?|base_model",
    "variant": "variant|recipe|imatrix|calibration",
    "sha256": "(?:file_)?sha_?256(?:sum)?",
    "corpus": "corpus|text",
    "tool": "tool",
    "task": "task|benchmark",
    "score": "score|acc(?:uracy)?|value|result",
    "n": "n|n_(?:items|samples|questions|per_seed)|items|samples",
    "chunk": "chunk",
    "sample_id": "(?:sample|item|doc|question)_id",
    "repeat": "repeat",
    "outcome": "outcome",
    "cluster": "cluster",
    "answer": "answer",
    "margin": "margin",
    "output": "output",
}
"""What tells rows apart, and the columns of long tables."""

_PARTS: Mapping[Part, str] = {
    "se": "se|err(?:or)?|std_?err(?:or)?|sem|pm",
    "low": "lo|low|lower",
    "high": "hi|high|upper",
    "n": "n|n_items|count",
}

_CORPUS = r"(?!p?\d)[a-z]\w*"
_LEADING_CORPUS = r"(?:wiki|c4|ptb|fineweb|pile|lambada|code|chat)\w*?"

OTHER_FILES = frozenset({"baseline", "base", "reference", "ref", "qat", "old", "new", "previous"})
"""Words that make a column speak of another file than its row does."""

_NO_MEASURE = OTHER_FILES | {
    "bits", "change", "chunks", "context", "cor", "correlation", "cost", "ctx", "date", "delta", "diff", "downloads", "dp",
    "drop", "gb", "gib", "hours", "id", "increase", "index", "kld", "layers", "likes", "loss", "max", "maximum", "mb",
    "memory", "mib", "min", "minimum", "ms", "params", "parameters", "perplexity", "ppl", "price", "ram", "rank",
    "recovery", "reduction", "rel", "s", "seconds", "seed", "seeds", "size", "speed", "temperature", "threads", "time",
    "tokens", "tps", "vram", "year",
}  # fmt: skip
"""Words that no score's column has, and that name no text."""

_BENCHMARK = re.compile(
    "aime|arc|avg|average|bbh|bfcl|boolq|c_?eval|gpqa|gsm8k|hellaswag|hle|human_?eval|if_?eval|lambada|livecodebench|math"
    "|mbpp|mean|mmlu|mt_bench|musr|openbookqa|obqa|overall|piqa|score|siqa|swe_bench|total|triviaqa|truthfulqa|winogrande"
)


@cache
def meaning(header: str) -> Meaning | None:
    """Return what a header says; None for one that is not in the tables above."""
    text = normal(header)
    if len(text) > 80:
        return None
    for name, spelling in LABELS.items():
        if re.fullmatch(spelling, text):
            return Meaning(name)
    source: Source = (
        "printed" if text.startswith("as_printed_") else "assumed" if text.endswith("_assumed") else "plain"
    )
    text, part = split_part(text.removeprefix("as_printed_").removesuffix("_assumed"))
    for name, spelling in OTHERS.items():
        if match := re.fullmatch(spelling, text):
            return Meaning(name, "", part, next((unit for unit in match.groupdict().values() if unit), ""), source)
    for name, spelling in PROXIES.items():
        unit = "%" if re.search("_(?:pct|percent)$", text) and not re.fullmatch(spelling, text) else ""
        bare = re.sub("_(?:pct|percent)$", "", text) if unit else text
        if match := re.fullmatch(rf"(?:({_LEADING_CORPUS})_)?{spelling}(?:_({_CORPUS}))?", bare):
            about = match[1] or match[2] or ""
            return None if _NO_MEASURE & set(about.split("_")) else Meaning(name, about, part, unit, source)
    return None


@cache
def normal(header: str) -> str:
    """Return a header as lower-case words between underscores: `99.9% KLD` is `99_9_pct_kld`, `ΔPPL` is `dppl`."""
    text = unicodedata.normalize("NFKC", header).casefold().replace("+/-", "±")
    for sign, word in {"δ": "d", "∆": "d", "±": "_pm_", "%": "_pct_", "/": "_over_", ")-": "_minus_"}.items():
        text = text.replace(sign, word)
    return re.sub("[^a-z0-9]+", "_", text).strip("_")


def split_part(text: str) -> tuple[str, Part]:
    """Split `ppl_wiki_err` into `ppl_wiki` and `se`; a header without such an ending is a value."""
    for part, spelling in _PARTS.items():
        if match := re.fullmatch(f"(.+)_(?:{spelling})", text):
            return match[1], part
    return text, "value"


def bare_part(header: str) -> Part | None:
    """Return what a header says that is nothing but a part of the column before it: `±`, `stderr`, `low`."""
    return next((part for part, spelling in _PARTS.items() if re.fullmatch(spelling, normal(header))), None)


def may_be_score(header: str) -> bool:
    """Say whether a column that nothing else explains may hold a task's scores."""
    return header != "" and not _NO_MEASURE & set(normal(header).split("_"))


def is_benchmark(header: str) -> bool:
    """Say whether a header names a known benchmark, or a mean of several."""
    return re.match(f"(?:{_BENCHMARK.pattern})(?![a-z])", normal(header)) is not None


def is_mean_of_tasks(task: str) -> bool:
    """Say whether a task is a mean over the table's other tasks."""
    return re.match("(?:avg|average|mean|overall|total)(?![a-z])", normal(task)) is not None


def looks_like_quant(name: str) -> bool:
    """Say whether a name holds a quantisation type."""
    return (
        re.search(r"(?i)(?<![a-z])(?:I?Q\d|TQ\d|B?F16|FP(?:16|8|4)|F32|MXFP4|NVFP4|[2-8]bit|int[48])", name) is not None
    )


def nominal_bits(name: str) -> float:
    """Return the bits a weight has by the name of a quant: 16 for `BF16`, 4 for `UD-IQ4_XS`; NaN without one."""
    match = re.search(r"(?i)(?<![a-z0-9])(?:B?F|FP|I?Q|TQ|MXFP|NVFP|int|w)(\d+)(?!\d|\.\d)|(?<![\d.])(\d+)bit", name)
    return float(match[1] or match[2]) if match else float("nan")


def is_full_precision(name: str) -> bool:
    """Say whether a quant is not quantised, by its name: `F32`, `bf16`, `fp16`."""
    return nominal_bits(name) >= 16
