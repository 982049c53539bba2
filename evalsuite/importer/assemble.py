"""What the files say, joined by quant, checked, and put into the tables of analysis."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import exp, nan
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.errors import SpecError
from evalsuite.importer import validity
from evalsuite.importer.cells import rounding
from evalsuite.importer.facts import OF_FILE, is_proxy
from evalsuite.importer.headers import OTHERS, PROXIES, is_mean_of_tasks
from evalsuite.importer.items import COLUMNS, one_row_a_sample
from evalsuite.importer.lm_eval_logs import is_log
from evalsuite.importer.quants import Quant, chosen_model, find, joined, largest, named
from evalsuite.importer.records import Fact, Finding, Gathered, Label
from evalsuite.importer.validity import Numbers, Point
from evalsuite.tables import CHUNK_COLUMNS, SCORE_COLUMNS, Tables

Row = dict[str, Any]
Points = dict[tuple[Label, str, str], Point]
"""The proxies of each (quant, text, tool), by measure."""

_COUNTS = {"n_tokens", "ctx", "chunks"}
_PROXY_COLUMNS = [name for name in (*PROXIES, *OTHERS) if is_proxy(name) and name not in {"ppl_diff", "top_differ"}]
_FLOOR = 1e-3
"""A file has no larger mean KLD from itself (nats)."""


def assemble(read: Gathered, wanted: str | None) -> Tables:
    """Return the tables of one model; `wanted` names the reference, as far as a user does.

    Raises SpecError for values that cannot be, for values that contradict each other, and for a reference that is not
    there.
    """
    rows = {Label(name): row for manifest in read.manifests for name, row in manifest.quants.items()}
    of_samples = {label for table in (*read.items, *read.chunks) for label in table["label"].unique()}
    if not (read.facts or of_samples):
        raise SpecError(f"{', '.join(read.files)}: not one cell holds a number. Give a table with measurements.")
    full = joined([*{fact.label for fact in read.facts}, *of_samples, *rows])
    listed = {full[label]: row for label, row in rows.items()}
    findings = list(read.findings)
    facts = [fact._replace(label=full[fact.label]) for fact in read.facts]
    models = {label.model for label in full.values()}
    names = named(full.values())
    shown = names if len(models) == 1 else {label: f"{label.model or ''} {names[label]}".strip() for label in names}
    facts, printed = _one_value_each(facts, shown, findings)
    points = _points(facts)
    _refuse_impossible(facts, points)
    numbers = _numbers(facts)
    quants = [
        Quant(names[label], label, *_of_file(numbers, listed, label)) for label in sorted(names, key=names.__getitem__)
    ]
    same_as = _look_through(points, printed, numbers, shown, findings, are_listed=bool(listed))
    reference, notes = _reference(quants, wanted, read)
    kept = {quant.label: quant.name for quant in quants if quant.label.model == reference.label.model}
    of_model = {shown[label]: name for label, name in kept.items()}
    findings += _other_models(quants, kept)
    items = _items(read, full, kept, findings)
    scores = _scores([fact for fact in facts if fact.label in kept], kept, items, findings)
    proxies = _proxies(points, _by_key(facts), kept)
    return Tables(
        quants=_quant_table(
            [quant for quant in quants if quant.label in kept], _hashes(read, full, names) | listed, reference, same_as
        ),
        tasks=_task_table(read, items, scores),
        items=items,
        proxies=proxies,
        header=_header(
            read,
            reference,
            [*notes, *_not_the_base(proxies, reference)],
            sorted({found._replace(quant=of_model.get(found.quant, found.quant)) for found in findings}),
        ),
        scores=scores,
        chunks=_chunks(read, full, kept),
    )


def _one_value_each(
    facts: Sequence[Fact], shown: Mapping[Label, str], findings: list[Finding]
) -> tuple[list[Fact], list[Fact]]:
    """Return one fact for each number, and what was printed of those that the table itself corrects.

    Raises SpecError where one number has two values.
    """
    by_key: dict[Any, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_key[_key(fact)].append(fact)
    kept, printed = [], []
    copies: dict[tuple[str, str], int] = defaultdict(int)
    for found in by_key.values():
        best = min(fact.source for fact in found)
        printed += [fact for fact in found if fact.source != best]
        first, *others = (fact for fact in found if fact.source == best)
        kept.append(first)
        for other in others:
            if other.value == first.value:
                copies[other.file, shown[first.label]] += first.measure not in OF_FILE
            elif first.measure in OF_FILE and first.file != other.file:
                findings += validity.sizes_differ(shown[first.label], first, other)
            else:
                raise SpecError(
                    f"{other.place}: {other.text}, but {first.place} says {first.text} of the same quant. Remove one row, or"
                    " tell the two apart in a column `provider`, `variant` or `corpus`."
                )
    for (file, quant), count in copies.items():
        if count:
            detail = f"{count} numbers are given twice, with equal values."
            findings.append(Finding("duplicate_row", file, quant, "", detail))
    return kept, printed


def _key(fact: Fact) -> tuple[Label, str, str, str, str]:
    return fact.label, fact.measure, fact.about, fact.tool, fact.part


def _by_key(facts: Iterable[Fact]) -> dict[tuple[Label, str, str, str, str], Fact]:
    return {_key(fact): fact for fact in facts}


def _points(facts: Iterable[Fact]) -> Points:
    points: Points = defaultdict(dict)
    for fact in facts:
        if fact.part == "value" and is_proxy(fact.measure):
            points[fact.label, fact.about, fact.tool][fact.measure] = fact
    for point in points.values():
        ratio = point.get("ln_ppl_ratio")
        if ratio and "ppl_ratio" not in point and abs(ratio.value) < 700:
            point["ppl_ratio"] = ratio._replace(measure="ppl_ratio", value=exp(ratio.value))
    return dict(points)


def _numbers(facts: Iterable[Fact]) -> dict[Label, Numbers]:
    """Return what is known of each quant, without what says how it was measured."""
    numbers: dict[Label, Numbers] = defaultdict(dict)
    for fact in facts:
        if fact.part == "value" and fact.measure not in _COUNTS:
            numbers[fact.label][fact.measure, fact.about, fact.tool] = fact
    return numbers


def _of_file(
    numbers: Mapping[Label, Numbers], listed: Mapping[Label, Mapping[str, Any]], label: Label
) -> Iterable[float]:
    """Return the size in bytes and the bits per weight of a quant, NaN where unknown; a manifest knows them exactly."""
    for measure in OF_FILE:
        said, fact = listed.get(label, {}).get(measure), numbers.get(label, {}).get((measure, "", ""))
        yield float(said) if said is not None else fact.value if fact else nan


def _refuse_impossible(facts: Sequence[Fact], points: Points) -> None:
    by_file: dict[str, list[Point]] = defaultdict(list)
    for point in points.values():
        by_file[next(iter(point.values())).file].append(point)
    for found in by_file.values():
        validity.check_swapped(found)
    for fact in facts:
        validity.check_possible(fact)
    for point in points.values():
        validity.check_ascending(point)


def _look_through(
    points: Points, printed: Sequence[Fact], numbers: Mapping[Label, Numbers], shown: Mapping[Label, str],
    findings: list[Finding], *, are_listed: bool,
) -> dict[Label, Label]:  # fmt: skip
    """Note what is odd; return the original of every quant that equals another in every number."""
    for file, column in sorted({(fact.file, fact.column) for fact in printed}):
        findings.append(Finding("corrected_column", file, "", column, "is left aside for the column that corrects it."))
    comparable: dict[Any, dict[str, Point]] = defaultdict(dict)
    for (label, about, tool), point in points.items():
        comparable[label.model, about, tool][shown[label]] = point
        findings += validity.ratio_above_kld(shown[label], point)
    for (label, _, _), point in _points(printed).items():
        findings += validity.swapped_as_printed(shown[label], point)
    for rows in comparable.values():
        findings += validity.inconsistent_ppl(rows)
    by_name = {name: label for label, name in shown.items()}
    original: dict[Label, Label] = {}
    for model in {label.model for label in numbers}:
        of_model = {shown[label]: found for label, found in numbers.items() if label.model == model}
        odd, same_as = validity.equal_rows(of_model, is_proxy=lambda fact: is_proxy(fact.measure))
        findings += [*odd, *validity.implied_parameters(of_model)]
        findings += [] if are_listed else validity.reference_rows(of_model)
        original |= {by_name[copy]: by_name[first] for copy, first in same_as.items()}
    return original


def _reference(quants: Sequence[Quant], wanted: str | None, read: Gathered) -> tuple[Quant, list[str]]:
    """Return the reference, and what to say of the choice."""
    stated = next((manifest.header["reference"] for manifest in read.manifests), None)
    if wanted or stated:
        return find(quants, str(wanted or stated)), []
    model = chosen_model(quants)
    of_model = [quant for quant in quants if quant.label.model == model]
    reference, why = largest(of_model)
    notes = [f"{reference.name} is the reference: no reference was named, and it is {why}"]
    if len(of_model) < len(quants):
        notes.append(f"the tables hold several models; only {model} is read, which has the most quants")
    return reference, notes


def _other_models(quants: Sequence[Quant], kept: Mapping[Label, str]) -> list[Finding]:
    left = Counter(quant.label.model or "" for quant in quants if quant.label not in kept)
    detail = "are left out: tables are of one model. Name one of them as the reference to read its model."
    return [Finding("other_model", "", "", "", f"{count} quants of {model} {detail}") for model, count in left.items()]


def _not_the_base(proxies: pd.DataFrame, reference: Quant) -> list[str]:
    """Say so where the KLD was measured against another file than the reference."""
    if "kld_mean" not in proxies:
        return []
    kld = proxies.loc[proxies["quant"] == reference.name, "kld_mean"].max()
    if not kld > _FLOOR:
        return []
    said = "the proxies were measured against another file, which is not among the quants"
    return [f"{reference.name} itself has a mean KLD of {kld:g}: {said}"]


def _chunks(read: Gathered, full: Mapping[Label, Label], kept: Mapping[Label, str]) -> pd.DataFrame:
    if not read.chunks:
        return pd.DataFrame(columns=list(CHUNK_COLUMNS))
    chunks = _under_names(pd.concat(read.chunks, ignore_index=True), full, kept)
    keys = list(CHUNK_COLUMNS[:4])
    chunks = chunks.drop_duplicates()[list(CHUNK_COLUMNS)].sort_values(keys, ignore_index=True)
    if chunks.duplicated(keys).any():
        twice = " × ".join(map(str, chunks.loc[chunks.duplicated(keys), keys].iloc[0]))
        raise SpecError(f"chunks: {twice} appears twice, with different values. Remove one.")
    return chunks


def _under_names(table: pd.DataFrame, full: Mapping[Label, Label], kept: Mapping[Label, str]) -> pd.DataFrame:
    quant = table["label"].map({label: kept.get(whole) for label, whole in full.items()})
    return table.assign(quant=quant)[quant.notna()]


def _items(
    read: Gathered, full: Mapping[Label, Label], kept: Mapping[Label, str], findings: list[Finding]
) -> pd.DataFrame:
    if not read.items:
        empty = pd.DataFrame(columns=["quant", *COLUMNS], dtype=object)
        return empty.astype({"repeat": "int64", "score": float, "margin": float})
    items, twice = one_row_a_sample(_under_names(pd.concat(read.items, ignore_index=True), full, kept))
    findings += twice
    return items[["quant", *COLUMNS]]


def _scores(
    facts: Sequence[Fact], kept: Mapping[Label, str], items: pd.DataFrame, findings: list[Finding]
) -> pd.DataFrame:
    """Return the scores of which nobody has the items; the others are compared with them."""
    of_items = items.groupby(["quant", "task", "sample_id"])["score"].mean().groupby(level=["quant", "task"]).mean()
    by_score: dict[tuple[str, str], dict[str, Fact]] = defaultdict(dict)
    for fact in facts:
        if fact.measure == "score":
            by_score[kept[fact.label], fact.about][fact.part] = fact
    rows = []
    for (quant, task), parts in sorted(by_score.items()):
        if "value" not in parts:
            continue
        score = parts["value"]
        if (quant, task) in of_items.index:
            mean = float(of_items[quant, task])
            if abs(score.value - mean) > 1e-9 + rounding(score.value):
                detail = f"{score.text} is not the mean of the items, {mean:.4f}; the items are read."
                findings.append(Finding("score_of_other_items", score.file, quant, score.column, detail))
            continue
        low, high = (parts[part].value if part in parts else nan for part in ("low", "high"))
        error = parts["se"].value if "se" in parts else (high - low) / (2 * 1.96)
        rows.append((quant, task, score.value, parts["n"].value if "n" in parts else nan, error))
    numeric = dict.fromkeys(SCORE_COLUMNS[2:], float)
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS)).astype(numeric)


def _proxies(
    points: Points, facts: Mapping[tuple[Label, str, str, str, str], Fact], kept: Mapping[Label, str]
) -> pd.DataFrame:
    rows: list[Row] = []
    for (label, about, tool), point in points.items():
        if label not in kept or point.keys() <= _COUNTS:
            continue
        row: Row = {"quant": kept[label], "corpus": about or None, "tool": tool}
        # A count beside columns of several texts holds for each.
        counts = points.get((label, "", tool), {}).items() if about else ()
        row |= {name: fact.value for name, fact in counts if name in _COUNTS}
        row |= {name: fact.value for name, fact in point.items() if name in _PROXY_COLUMNS}
        for name in point:
            if error := facts.get((label, name, about, tool, "se")):
                row[f"{name}_se"] = error.value
        rows.append(row)
    rows.sort(key=lambda row: (row["tool"], row["corpus"] or "", row["quant"]))
    known = {name for row in rows for name in row}
    columns = [name for proxy in _PROXY_COLUMNS for name in (proxy, f"{proxy}_se") if name in known]
    table = pd.DataFrame(rows, columns=["quant", "corpus", "tool", *columns])
    return table.astype(dict.fromkeys(columns, float))


def _hashes(read: Gathered, full: Mapping[Label, Label], names: Mapping[Label, str]) -> dict[Label, Mapping[str, Any]]:
    """Return the SHA-256 that tables give of each quant's file. Raises SpecError where one name stands for two files."""
    hashes: dict[Label, set[str]] = defaultdict(set)
    for label, digests in read.hashes.items():
        hashes[full[label]] |= digests
    for label, digests in hashes.items():
        if len(digests) > 1:
            said = " and ".join(f"{digest[:8]}…" for digest in sorted(digests))
            raise SpecError(
                f"{names[label]}: the tables give it the SHA-256 {said}. These are two files: name them apart."
            )
    return {label: {"sha256": min(digests)} for label, digests in hashes.items()}


def _quant_table(
    quants: Sequence[Quant], listed: Mapping[Label, Mapping[str, Any]], reference: Quant, same_as: Mapping[Label, Label]
) -> pd.DataFrame:
    names = {quant.label: quant.name for quant in quants}
    original = dict(same_as)
    # The reference is nobody's copy: those that equal it are its copies.
    if first := original.pop(reference.label, None):
        original |= {copy: reference.label for copy, of in same_as.items() if of == first} | {first: reference.label}
        original.pop(reference.label)
    originals = {copy: names[first] for copy, first in original.items() if copy in names}
    rows = []
    for quant in quants:
        row = listed.get(quant.label, {})
        rows.append({
            "quant": quant.name, "provider": row.get("provider") or quant.label.provider or None,
            "size_bytes": quant.size_bytes, "bpw": quant.bpw, "sha256": row.get("sha256"),
            "is_reference": quant.label == reference.label, "replicate_of": row.get("replicate_of"),
            "status": row.get("status", "ok"), "reason": row.get("reason"), "same_as": originals.get(quant.label),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _task_table(read: Gathered, items: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    counts = items.groupby("task")["sample_id"].nunique()
    tasks = sorted({*counts.index, *scores["task"]})
    listed = {task: row for manifest in read.manifests for task, row in manifest.tasks.items()}
    return pd.DataFrame(
        [
            {"task": task, "title": task, "chance": nan, "version": None, "n_planned": float(counts.get(task, nan))}
            | {name: value for name, value in listed.get(task, {}).items() if value is not None}
            | {"mean_of_tasks": len(tasks) > 1 and is_mean_of_tasks(task)}
            for task in tasks
        ],
        columns=["task", "title", "chance", "version", "n_planned", "mean_of_tasks"],
    )


def _header(read: Gathered, reference: Quant, notes: Sequence[str], findings: Sequence[Finding]) -> Row:
    base = dict(read.manifests[0].header) if read.manifests else {}
    return base | {
        "model": base.get("model") or reference.label.model or _stem(read.files),
        "reference": reference.name,
        "notes": [*base.get("notes", []), *notes],
        "import": [finding._asdict() for finding in findings],
        "files": read.files,
    }


def _stem(files: Iterable[str]) -> str:
    """Return what to call a model that no table names: by the first table."""
    return next((Path(file).stem for file in files if not is_log(Path(file))), "lm-eval logs")
