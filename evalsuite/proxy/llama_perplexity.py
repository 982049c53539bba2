"""Perplexity and KL divergence by llama.cpp's own llama-perplexity: run it, read its output, judge its success.

The program exits with 0 after most failures, so success is a matter of content: every chunk has its row, the final
blocks are there, and it made no complaint of the kind that it carries on after. A log is kept whole: what is derived
from it can be derived again.

Format of the output: tools/perplexity/perplexity.cpp of llama.cpp b11434. Base file (little-endian): `_logits_`, n_ctx
u32, n_vocab i32, n_chunk i32, the tokens as i32; then for every scored token an f32 scale, an f32 offset and a 16-bit
code for each entry of the vocabulary, whose number is rounded up to even.
"""

import math
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from evalsuite.errors import MachineError, SpecError
from evalsuite.proxy.programs import Tool, run_tool
from evalsuite.proxy.records import (
    FEWEST_TOKENS,
    TAIL,
    ChunkMeans,
    ProxyRow,
    check_groups,
    chunk_se,
    finite,
    maximum_se,
    scored_tokens,
)
from evalsuite.serve.process import error_lines

Progress = Callable[[int, int], None]
"""Called with the chunks done and the chunks in all."""

# A wrong decoding turns ± and Δ into other signs, one to three of them. A number at the end of a truncated log may lack
# digits, so only whole lines count.
_NUM = r"([-+]?(?:\d+\.?\d*|nan|inf))"
_PM = r"\s+[^\s\d]{1,3}\s+" + _NUM
_DP = r"[^\s\d]{1,3}p"
_FIGURE = rf"\s+{_NUM}{_PM}"
_SHARE = rf"{_FIGURE}\s*%"
_ROW = re.compile(rf"^\s*(\d+){_FIGURE}{_FIGURE}{_FIGURE}{_SHARE}{_SHARE}[ \t\r]*\n", re.MULTILINE)
_LABELS = (
    r"Mean PPL\(Q\)[/-]PPL\(base\)|Mean PPL\((?:Q|base)\)|Cor\(.*\)|Mean ln\(.*\)"
    rf"|(?:Mean|Maximum|Minimum|Median|[\d.]+%)\s+(?:KLD|{_DP})|RMS\s+{_DP}|Same top p"
)
_STATISTIC = re.compile(rf"^\s*({_LABELS})\s*:\s*{_NUM}\s*%?(?:{_PM}\s*%?)?[ \t\r]*\n", re.MULTILINE)
_PLAIN_ROW = re.compile(r"\[(\d+)\](-?nan|inf|\d+\.\d+),")
_FINAL = re.compile(rf"Final estimate: PPL = {_NUM}{_PM}[ \t\r]*\n")
_PLANNED = re.compile(r"over (\d+) chunks, n_ctx=(\d+)")
_CARRIED_ON = re.compile(r"inconsistent vocabulary.*|has been computed with .* Increase it with -c.*")
_TOO_SHORT = re.compile(r"you need at least (\d+) tokens[\s\S]*tokenizes to only (\d+) tokens")
_QUANTILES = {"kld_median": "Median KLD", "kld_p99": "99.0% KLD", "kld_p999": "99.9% KLD"}
_FEWEST_BEYOND = 2  # tokens of a group beyond a quantile whose error its groups tell

_HEADER, _MAGIC = struct.Struct("<8sIii"), b"_logits_"


@dataclass(frozen=True)
class Printout:
    """What one run printed, in the printed units, and why it does not count as a success.

    `rows` holds a tuple a chunk, of running means over the chunks so far: PPL, ln PPL ratio, KLD, RMS Δp and same top p
    in percent; or PPL alone in a plain run. `statistics` maps a printed label (blanks collapsed, `Δp` mended) to its
    value and its ±, None where none is printed. `problems` is empty after a complete run.
    """

    ctx: int | None
    rows: tuple[tuple[float, ...], ...]
    statistics: Mapping[str, tuple[float, float | None]]
    problems: tuple[str, ...]


def parse(stdout: str, stderr: str = "") -> Printout:
    """Read a plain or a `--kl-divergence` run; the two streams may come apart or mixed in one text."""
    text = f"{stderr}\n{stdout}"
    kld_rows = {int(match[1]): tuple(map(float, match.group(2, 4, 6, 8, 10))) for match in _ROW.finditer(text)}
    rows = kld_rows or {int(number): (float(ppl),) for number, ppl in _PLAIN_ROW.findall(text)}
    statistics: dict[str, tuple[float, float | None]] = {}
    for label, value, plus_minus in _STATISTIC.findall(text):
        # Older builds print the 99 % quantile twice.
        statistics.setdefault(_mended(label), (float(value), float(plus_minus) if plus_minus else None))
    if final := _FINAL.search(text):
        statistics["Final PPL"] = (float(final[1]), float(final[2]))
    planned = _PLANNED.search(text)
    ctx = int(planned[2]) if planned else None
    return Printout(
        ctx=ctx,
        rows=tuple(rows[number] for number in sorted(rows)),
        statistics=statistics,
        problems=(
            *_CARRIED_ON.findall(text),
            *_missing_rows(sorted(rows), int(planned[1]) if planned else None),
            *_missing_blocks(statistics, len(rows), ctx, plain=not kld_rows),
        ),
    )


def _mended(label: str) -> str:
    return re.sub(rf"^((?:\S+|RMS) ){_DP}$", r"\1Δp", " ".join(label.split()))


def _missing_rows(numbers: Sequence[int], planned: int | None) -> Iterator[str]:
    expected = planned or max(numbers, default=1)
    if list(numbers) != list(range(1, expected + 1)):
        yield f"{len(numbers)} of {expected} chunks have a row"


def _missing_blocks(statistics: Mapping[str, object], chunks: int, ctx: int | None, *, plain: bool) -> Iterator[str]:
    wanted = ("Final PPL",) if plain else ("Mean PPL(Q)", "Mean PPL(base)", "Mean KLD", "RMS Δp", "Same top p")
    missing = [label for label in wanted if label not in statistics]
    too_few = not plain and ctx is not None and chunks * scored_tokens(ctx) < FEWEST_TOKENS
    if missing and not too_few:
        yield f"the final statistics lack {', '.join(missing)}"


def proxy_row(
    printout: Printout, *, ctx: int, corpus: str, corpus_sha256: str, base_ppl: float | None = None,
    groups: Sequence[Printout] = (),
) -> ProxyRow:  # fmt: skip
    """Turn a `--kl-divergence` printout into shares and nats, with standard errors from the chunk means.

    `base_ppl` is the reference's PPL from the run that wrote the base. Without it PPL(base) comes from the base file,
    which stores no logit more than 16 below the best and so makes PPL(base) a little too low. `groups` are printouts of
    the same text group by group of chunks: they give the errors of what is no mean, and finer chunk means.
    """
    chunks = tuple(own for part in groups or [printout] for own in _chunk_means(part.rows, ctx))
    se = chunk_se(chunks)
    last = printout.rows[-1]
    notes = list(printout.problems)
    group_se = _group_errors(groups, ctx, notes)
    if "Mean KLD" not in printout.statistics:
        notes.append(f"fewer than {FEWEST_TOKENS} scored tokens: means only, from the last chunk's row")
    if len(chunks) < 2:
        notes.append("one chunk: no standard errors, since tokens of one text are not independent")

    def printed(label: str, scale: float = 1, otherwise: float = math.nan) -> float | None:
        value = scale * printout.statistics.get(label, (otherwise / scale, None))[0]
        if not math.isfinite(value) and label in printout.statistics:
            notes.append(f"{label} is {value}: the model's output is not a number somewhere")
        return value if math.isfinite(value) else None

    ppl = printed("Mean PPL(Q)", otherwise=last[0])
    stored_base = printed("Mean PPL(base)", otherwise=last[0] / math.exp(last[1]))
    if base_ppl is None:
        notes.append("PPL(base) comes from the 16-bit base file, which makes it a little too low")
    base = base_ppl or stored_base
    ratio = ppl / base if ppl and base else None
    return ProxyRow(
        tool="llama-perplexity",
        corpus=corpus,
        corpus_sha256=corpus_sha256,
        ctx=ctx,
        chunks=len(chunks),
        n_tokens=len(chunks) * scored_tokens(ctx),
        ppl=ppl,
        ppl_se=finite(ppl * se.ln_ppl) if ppl else None,
        ppl_base=base,
        ppl_ratio=ratio,
        ln_ppl_ratio=math.log(ratio) if ratio else None,
        ln_ppl_ratio_se=finite(se.ln_ppl_ratio),
        kld_mean=printed("Mean KLD", otherwise=last[2]),
        kld_mean_se=finite(se.kld),
        kld_median=printed("Median KLD"),
        kld_p90=printed("90.0% KLD"),
        kld_p95=printed("95.0% KLD"),
        kld_p99=printed("99.0% KLD"),
        kld_p999=printed("99.9% KLD"),
        kld_max=printed("Maximum KLD"),
        kld_min=printed("Minimum KLD"),
        rms_dp=printed("RMS Δp", 0.01, last[3] / 100),
        rms_dp_se=finite(se.rms_dp),
        mean_dp=printed("Mean Δp", 0.01),
        same_top_p=printed("Same top p", 0.01, last[4] / 100),
        same_top_p_se=finite(se.same_top_p),
        correlation=printed("Cor(ln(PPL(Q)), ln(PPL(base)))", 0.01),
        chunk_means=chunks,
        notes=tuple(notes),
        **group_se,
    )


def _group_errors(groups: Sequence[Printout], ctx: int, notes: list[str]) -> dict[str, float | None]:
    """Return the standard errors of what is no mean, from groups of chunks, and note what they do not tell.

    Batch means: sd of a statistic over the groups / √G. The quantile of a small group is another one than that of the
    whole, so each must hold some tokens beyond it: on simulated lognormal KLD the errors are .9 to 1.05 of the true ones
    with 2 such tokens, .8 with 1.
    """
    if not groups:
        return {}

    def printed(label: str) -> list[float]:
        return [group.statistics.get(label, (math.nan, None))[0] for group in groups]

    smallest = min(len(group.rows) for group in groups) * scored_tokens(ctx)
    errors = {"mean_dp_se": _spread(printed("Mean Δp")) / 100, "kld_max_se": maximum_se(printed("Maximum KLD"))}
    for name, share in TAIL.items():
        if (1 - share) * smallest >= _FEWEST_BEYOND:
            errors[f"{name}_se"] = _spread(printed(_QUANTILES[name]))
        else:
            notes.append(f"{name} has no standard error: the smallest group has {smallest} tokens, too few so far out")
    return {name: None if error is None else finite(error) for name, error in errors.items()}


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _chunk_means(rows: Sequence[tuple[float, ...]], ctx: int) -> tuple[ChunkMeans, ...]:
    """Undo the running means: a chunk's own is c·m_c − (c−1)·m_{c−1}, exact to c units of the last printed digit."""
    running = [(math.log(ppl), ratio, kld, (rms / 100) ** 2, top / 100) for ppl, ratio, kld, rms, top in rows]
    chunks = []
    for count, (before, now) in enumerate(zip([(0.0,) * 5, *running[:-1]], running, strict=True), 1):
        own = [count * new - (count - 1) * old for old, new in zip(before, now, strict=True)]
        ln_ppl, ratio, kld, mean_square, same_top_p = own
        chunks.append(ChunkMeans(ln_ppl, ratio, kld, math.sqrt(max(mean_square, 0)), same_top_p, scored_tokens(ctx)))
    return tuple(chunks)


def base_size(ctx: int, n_vocab: int, chunks: int) -> int:
    """Return the bytes of a base file."""
    return _HEADER.size + 4 * ctx * chunks + 2 * chunks * scored_tokens(ctx) * (2 * ((n_vocab + 1) // 2) + 4)


def read_base(base: Path) -> tuple[int, int, int]:
    """Return ctx, vocabulary and chunks of a base file; MachineError if it is not one, or not whole."""
    with base.open("rb") as file:
        header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise MachineError(f"{base}: not a base file of llama-perplexity. Delete it and run again.")
    _, ctx, n_vocab, chunks = _HEADER.unpack(header)
    size, expected = base.stat().st_size, base_size(ctx, n_vocab, chunks)
    if size != expected:
        raise MachineError(f"{base}: {size} bytes instead of {expected}: incomplete. Delete it and run again.")
    return ctx, n_vocab, chunks


def copy_chunks(base: Path, part: Path, first: int, end: int) -> None:
    """Write the chunks from `first` up to `end` (from 0, not included) as a base file of their own."""
    ctx, n_vocab, chunks = read_base(base)
    tokens, one = 4 * ctx, base_size(ctx, n_vocab, 1) - _HEADER.size
    parts = ((_HEADER.size, tokens), (_HEADER.size + tokens * chunks, one - tokens))
    content = np.memmap(base, np.uint8, "r")
    with part.open("wb") as file:
        file.write(_HEADER.pack(_MAGIC, ctx, n_vocab, end - first))
        for start, size in parts:
            content[start + size * first : start + size * end].tofile(file)


def run_base(
    tool: Tool, model: Path, text: Path, base: Path, *, ctx: int, chunks: int, n_vocab: int, kv_cache: str = "f16",
    groups: int = 1, progress: Progress,
) -> Printout:  # fmt: skip
    """Run the reference over the text and write its base file, which appears under its name only when it is whole.

    A short text gives fewer chunks than asked for. `n_vocab` and `groups` serve to foresee the size. SpecError when it
    is shorter than two, or too short for the groups; MachineError when the disk is too small for the file and when the run
    fails; the log is kept.
    """
    # No text has more tokens than bytes, but for the one a tokeniser may put before it.
    most = max(1, min(chunks, (text.stat().st_size + 1) // ctx))
    largest_group = -(-most // groups) if groups > 1 else 0
    _require_space(base, base_size(ctx, n_vocab, most) + base_size(ctx, n_vocab, largest_group))
    unfinished = base.with_name(f"{base.name}.part")
    arguments = ["-f", text, "--chunks", chunks, "--kl-divergence-base", unfinished]
    try:
        printout = _run(tool, model, arguments, ctx, kv_cache, progress)
        check_groups(read_base(unfinished)[2], groups, ctx)
        unfinished.replace(base)
    finally:
        unfinished.unlink(missing_ok=True)
    return printout


def run_kld(tool: Tool, model: Path, base: Path, *, kv_cache: str = "f16", progress: Progress) -> Printout:
    """Compare a quant with a base file; context and tokens are the base's. MachineError when the run fails."""
    ctx, _, _ = read_base(base)
    return _run(tool, model, ["--kl-divergence", "--kl-divergence-base", base], ctx, kv_cache, progress)


def run_groups(
    tool: Tool, model: Path, base: Path, groups: int, *, kv_cache: str = "f16", progress: Progress
) -> list[Printout]:
    """Compare a quant with groups of the base's chunks, as equally long as may be; none for fewer than two groups.

    Neighbours stay together, so that what they share counts against the spread of the groups. Costs as much as `run_kld`
    once more, a load of the model for each group, and the disk that the largest of them takes. Raises what `run_kld` does.
    """
    _, _, chunks = read_base(base)
    ends = [chunks * number // groups for number in range(groups + 1)]
    part, printouts = base.with_name(f"{base.name}.group"), []
    try:
        for first, end in pairwise(ends) if groups > 1 else ():
            copy_chunks(base, part, first, end)
            printouts.append(run_kld(tool, model, part, kv_cache=kv_cache, progress=progress))
    finally:
        part.unlink(missing_ok=True)
    return printouts


def _settings(ctx: int, kv_cache: str) -> list[object]:
    """Name every setting that changes the arithmetic; a chunk never exceeds a batch.

    On a model of 135 M parameters and 635 tokens another `-ub` or `-fa` alone moved PPL by up to .7 %.
    """
    batch = ctx * max(1, 2048 // ctx)
    return ["-c", ctx, "-b", batch, "-ub", min(512, batch), "-fa", "on", "-ctk", kv_cache, "-ctv", kv_cache]


def _require_space(base: Path, needed: int) -> None:
    free = shutil.disk_usage(base.parent).free
    if free < needed:
        raise MachineError(
            f"{base.parent}: the base file needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free. "
            "Ask for fewer chunks or make room."
        )


def _run(tool: Tool, model: Path, arguments: Sequence[object], ctx: int, kv_cache: str, progress: Progress) -> Printout:
    words = ["-m", model, *arguments, *_settings(ctx, kv_cache)]
    problems = run_tool(tool, words, watch=lambda log: _report(log, progress))
    text = tool.log.read_text(encoding="utf-8", errors="replace")
    if short := _TOO_SHORT.search(text):
        raise SpecError(
            f"The text has {short[2]} tokens and llama-perplexity needs {short[1]}. Take more text or a smaller ctx."
        )
    printout = parse(text)
    if problems := [*problems, *printout.problems]:
        raise MachineError(
            f"llama-perplexity: {'; '.join(problems)}. Command: {' '.join(tool.words(words))}{error_lines(tool.log)}"
        )
    return printout


def _report(log: str, progress: Progress) -> None:
    if planned := _PLANNED.search(log):
        progress(len(_ROW.findall(log) or _PLAIN_ROW.findall(log)), int(planned[1]))
