"""Tables of proxies and scores, in whatever layout, as one number at a time."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from evalsuite.errors import SpecError
from evalsuite.importer.cells import Number, has_decimal_comma, number
from evalsuite.importer.files import Grid, shown, text_of
from evalsuite.importer.headers import (
    LABELS,
    OTHER_FILES,
    OTHERS,
    PROXIES,
    Meaning,
    bare_part,
    is_benchmark,
    looks_like_quant,
    may_be_score,
    meaning,
    normal,
    split_part,
)
from evalsuite.importer.records import Fact, Finding, Label
from evalsuite.importer.validity import share_scale

TABLE = "table"
"""The tool of a proxy whose table names none."""

OF_FILE = ("size_bytes", "bpw")
"""Measures of a file, whatever text it is measured on."""

_SHARES = {"score": False, "same_top_p": False, "top_differ": True, "rms_dp": True}
"""Measures that tables print as shares or percents, and whether percents below 1 are nothing special."""

_BYTES = {"gb": 1e9, "gib": 2**30, "mb": 1e6, "mib": 2**20, "bytes": 1.0}

_UNITS = {"gib": "GiB", "mb": "MB", "mib": "MiB", "bytes": "bytes"}

_Parse = Callable[[str], Number | None]


@dataclass(frozen=True)
class _Columns:
    """Where a grid says what: its columns by label, and its measured columns with what they mean."""

    labels: Mapping[str, int]
    measured: Mapping[int, Meaning]


@dataclass(frozen=True)
class _Cell:
    """A number on its way to a fact, in the unit it is printed in."""

    row: int
    label: Label
    meaning: Meaning
    tool: str
    column: str
    place: str
    text: str
    value: float
    unit: str


def labelled(grid: Grid) -> dict[str, int]:
    """Return the columns that tell rows apart or hold long tables' scores, by their name in LABELS."""
    labels: dict[str, int] = {}
    for index, header in enumerate(grid.header):
        found = meaning(header)
        if found and found.measure in LABELS and (found.measure not in labels or normal(header) == found.measure):
            labels[found.measure] = index
    return labels


def is_proxy(measure: str) -> bool:
    """Say whether a measure belongs to the proxies table."""
    return measure in PROXIES or (measure in OTHERS and measure not in OF_FILE)


def read_facts(grid: Grid) -> tuple[list[Fact], list[Finding], dict[Label, str]]:
    """Return every number of a table of proxies or scores that is understood, what a reader should know, and the hashes.

    Wide, long and turned tables are told apart by their headers. Raises SpecError, naming the cell, for a table without
    quants or numbers, a number that cannot be, a text where a number belongs, and a percentage among shares.
    """
    grid = _upright(grid)
    texts = [[text_of(cell) for cell in row] for row in grid.rows.itertuples(index=False, name=None)]
    parse = partial(number, decimal_comma=has_decimal_comma(cell for row in texts for cell in row))
    findings: list[Finding] = []
    columns = _columns(grid, texts, parse, findings)
    cells = _in_shares(_distinct_files(list(_cells(grid, texts, columns, parse))), grid, findings)
    return [_fact(grid.file, cell) for cell in cells], findings, _hashes(grid, texts, cells)


def _hashes(grid: Grid, texts: Sequence[Sequence[str]], cells: Sequence[_Cell]) -> dict[Label, str]:
    """Return the SHA-256 of each quant's file as 64 hex digits, where the table has them."""
    column = labelled(grid).get("sha256")
    hashes: dict[Label, str] = {}
    for cell in cells if column is not None else ():
        digest = texts[cell.row][column or 0].casefold().removeprefix("sha256:")
        if digest and not re.fullmatch("[0-9a-f]{64}", digest):
            place = grid.place(cell.row, cell.label.quant, grid.header[column or 0])
            raise SpecError(
                f"{place}: {shown(digest)} is no SHA-256, which has 64 hex digits. Correct it, or leave it empty."
            )
        if digest:
            hashes[cell.label] = digest
    return hashes


def _upright(grid: Grid) -> Grid:
    """Return a table with a quant a row: turned, or with its model column read as the quants, where need be."""
    if "quant" in labelled(grid):
        return grid
    names = [text_of(cell) for cell in grid.rows[0]]
    known = [name for name in names if is_benchmark(name) or ((found := meaning(name)) and found.measure not in LABELS)]
    if len(known) >= 2 and len(grid.header) > 1:
        turned = grid.rows.drop(columns=0).T.reset_index(drop=True)
        turned.insert(0, "quant", list(grid.header[1:]))
        return Grid(grid.file, ("quant", *names), turned.set_axis(range(len(names) + 1), axis=1), turned=True)
    model = labelled(grid).get("model")
    if model is not None:
        names = [text_of(cell) for cell in grid.rows[model]]
        if 2 * sum(map(looks_like_quant, names)) >= len(names):
            return replace(grid, header=tuple("quant" if at == model else name for at, name in enumerate(grid.header)))
    raise SpecError(
        f"{grid.file}: no column names the quants. Columns: {', '.join(map(shown, grid.header[:12]))}."
        " Call one `quant`, with a row for each quant."
    )


def _columns(grid: Grid, texts: Sequence[Sequence[str]], parse: _Parse, findings: list[Finding]) -> _Columns:
    labels = labelled(grid)
    is_long = "task" in labels and "score" in labels
    score = labels.pop("score", None)
    measured: dict[int, Meaning] = {}
    unknown: list[int] = []
    for index, header in enumerate(grid.header):
        found = meaning(header)
        if found and (found.measure in PROXIES or found.measure in OTHERS):
            measured[index] = found
        elif is_long and index == score:
            measured[index] = Meaning("score")
        elif header and index not in labels.values():
            unknown.append(index)
    if not is_long:
        measured |= _task_columns(grid, unknown, texts, parse, findings)
    if "n" in labels and any(found.measure == "score" for found in measured.values()):
        measured[labels["n"]] = Meaning("score", part="n")
    for index in unknown:
        if index - 1 in measured and (part := bare_part(grid.header[index])):
            measured[index] = replace(measured[index - 1], part=part)
    unread = [grid.header[index] for index in unknown if index not in measured]
    if not measured:
        raise SpecError(_no_numbers(grid, unread))
    for name in unread:
        why = "speaks of another file than its row." if _of_another_file(name) else "is no proxy and no score."
        findings.append(Finding("column_not_read", grid.file, "", name, why))
    return _Columns(labels, _settled(grid, measured, findings))


def _no_numbers(grid: Grid, unread: Sequence[str]) -> str:
    two_files = [shown(name) for name in unread if _of_another_file(name)]
    if two_files:
        return (
            f"{grid.file}: the columns {', '.join(two_files[:12])} speak of several files in one row. Write a row for each"
            " file, with the columns' usual names."
        )
    return f"{grid.file}: holds no proxy and no score. Columns: {', '.join(map(shown, grid.header[:12]))}."


def _of_another_file(header: str) -> bool:
    return not OTHER_FILES.isdisjoint(normal(header).split("_"))


def _task_columns(
    grid: Grid, unknown: Sequence[int], texts: Sequence[Sequence[str]], parse: _Parse, findings: list[Finding]
) -> dict[int, Meaning]:
    """Return the columns that hold a task's scores each, and those beside them with their errors and counts."""
    tasks: dict[str, str] = {}
    measured: dict[int, Meaning] = {}
    for index in unknown:
        header, name = grid.header[index], normal(grid.header[index])
        if may_be_score(header) and split_part(name)[1] == "value" and _holds_scores(header, index, texts, parse):
            unit = "%" if re.search("(?:_pct|_percent)$", name) else ""
            task = re.sub(r"(?i)[\s_]*[(\[]?(?:%|pct|percent)[)\]]?$", "", header) if unit else header
            tasks[normal(task)] = task
            measured[index] = Meaning("score", task, unit=unit)
            if not is_benchmark(header):
                findings.append(Finding("taken_as_score", grid.file, "", header, "is read as a task's score."))
    for index in unknown:
        base, part = split_part(normal(grid.header[index]))
        if part != "value" and base in tasks:
            measured[index] = Meaning("score", tasks[base], part)
    return measured


def _holds_scores(header: str, index: int, texts: Sequence[Sequence[str]], parse: _Parse) -> bool:
    """Say whether a column's cells are scores; one of a known benchmark may hold errors, which are refused later."""
    values: list[float] = []
    strange = 0
    for row in texts:
        try:
            found = parse(row[index])
        except ValueError:
            strange += 1
        else:
            values += [found.value] if found and found.unit in {"", "%"} else []
    if is_benchmark(header):
        return len(values) > strange
    return bool(values) and not strange and all(0 <= value <= 100 for value in values)


def _settled(grid: Grid, measured: Mapping[int, Meaning], findings: list[Finding]) -> dict[int, Meaning]:
    """Return the columns with the texts settled: an abbreviation is the name it begins, an error its value's."""
    values = {(found.measure, found.about) for found in measured.values() if found.part == "value"}
    texts = {found.about for found in measured.values() if found.measure in PROXIES} - {""}
    full = {}
    for short in texts:
        longer = [name for name in texts if name != short and name.startswith(short)]
        if len(longer) == 1 and not any({(m, short), (m, longer[0])} <= values for m, _ in values):
            full[short] = longer[0]
            detail = f"is taken as short for the text {longer[0]!r}."
            findings.append(Finding("abbreviated_text", grid.file, "", short, detail))
    settled: dict[int, Meaning] = {}
    for index, found in measured.items():
        about = full.get(found.about, found.about)
        of_measure = {full.get(text, text) for measure, text in values if measure == found.measure}
        if found.measure in PROXIES and found.part != "value" and not about and len(of_measure) == 1:
            about = of_measure.pop()
        settled[index] = replace(found, about=about)
    return _without_twins(grid, settled, findings)


def _without_twins(grid: Grid, measured: Mapping[int, Meaning], findings: list[Finding]) -> dict[int, Meaning]:
    """Refuse two columns of one proxy or task; of two sizes, speeds or counts the first is read."""
    kept: dict[Meaning, int] = {}
    for index, found in measured.items():
        twin = kept.setdefault(replace(found, unit=""), index)
        if twin != index:
            first, second = shown(grid.header[twin]), shown(grid.header[index])
            if found.measure not in OTHERS:
                both = found.about if found.measure == "score" else f"{found.measure} {found.about}".strip()
                raise SpecError(
                    f"{grid.file}: the columns {first} and {second} both mean {both}. Rename one, or take it out."
                )
            detail = f"says the same as {first}, which is read."
            findings.append(Finding("column_not_read", grid.file, "", grid.header[index], detail))
    return {index: measured[index] for index in kept.values()}


def _cells(grid: Grid, texts: Sequence[Sequence[str]], columns: _Columns, parse: _Parse) -> Iterator[_Cell]:
    tasks = sorted({found.about for found in columns.measured.values() if found.measure == "score"} - {""})
    for row, cells in enumerate(texts):
        if not any(cells):
            continue
        said = _said(grid, columns.labels, cells, row)
        tool = said.get("tool") or TABLE
        label = Label(said["quant"], said.get("provider"), said["model"], said.get("variant"))
        for index, found in columns.measured.items():
            place = grid.place(row, label.quant, grid.header[index])
            try:
                read = parse(cells[index])
            except ValueError:
                raise SpecError(
                    f"{place}: {shown(cells[index])} is no number. Correct the cell, or leave it empty."
                ) from None
            if read is None:
                continue
            abouts = [found.about]
            if found.measure == "score":
                abouts = [found.about] if found.about else [said["task"]] if "task" in said else tasks
            elif found.measure not in OF_FILE and not found.about:
                abouts = [said.get("corpus") or ""]
            for about in abouts:
                cell = _Cell(
                    row, label, replace(found, about=about), tool if is_proxy(found.measure) else "", grid.header[index],
                    place, cells[index], read.value, read.unit or found.unit,
                )  # fmt: skip
                yield cell
                if read.error is not None:
                    yield replace(cell, meaning=replace(cell.meaning, part="se"), value=read.error)


def _said(grid: Grid, labels: Mapping[str, int], cells: Sequence[str], row: int) -> dict[str, Any]:
    """Return what a row says of itself. Raises SpecError where it names no quant or no task, or names nobody can print."""
    said: dict[str, Any] = {}
    for name in (*Label._fields, "corpus", "tool", "task"):
        if (index := labels.get(name)) is not None:
            said[name] = checked_name(cells[index], f"{grid.file}: row {row + 2}, column {shown(grid.header[index])}")
    if not said["quant"] and looks_like_quant(said.get("provider", "")):
        # An unquantised file has no maker beside the model's own, so its name slips into that column.
        said |= {"quant": said["provider"], "provider": ""}
    for name in ("quant", "task"):
        if said.get(name) == "":
            raise SpecError(f"{grid.file}: row {row + 2} names no {name}. Name it, or take the row out.")
    return said | {"model": said.get("model") or None}


def checked_name(name: str, place: str) -> str:
    """Return a name as it is. Raises SpecError for one of more than 200 characters, or with control characters."""
    if len(name) > 200:
        raise SpecError(f"{place}: {shown(name)} has {len(name):,} characters. Names have at most 200.")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise SpecError(f"{place}: {shown(name)} holds a control character. Take it out of the name.")
    return name


def _distinct_files(cells: list[_Cell]) -> list[_Cell]:
    """Tell rows of one name but differing sizes apart: they are different files."""
    sizes: dict[Label, dict[int, dict[str, _Cell]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        if cell.meaning.measure in OF_FILE:
            sizes[cell.label][cell.row][cell.meaning.measure] = cell
    suffixes: dict[tuple[Label, int], str] = {}
    for label, rows in sizes.items():
        for measure, unit in (("bpw", "bpw"), ("size_bytes", "GB")):
            found = {row: of[measure] for row, of in rows.items() if measure in of}
            if len({cell.value for cell in found.values()}) > 1:
                for row, cell in found.items():
                    suffixes.setdefault((label, row), f"{cell.value:g} {_UNITS.get(cell.unit, unit)}")
    return [
        replace(cell, label=cell.label._replace(variant=" ".join(filter(None, (cell.label.variant, suffix)))))
        if (suffix := suffixes.get((cell.label, cell.row)))
        else cell
        for cell in cells
    ]


def _in_shares(cells: list[_Cell], grid: Grid, findings: list[Finding]) -> list[_Cell]:
    """Return the cells of shares as shares, each measure of a table in one unit where its cells do not say."""
    columns: dict[tuple[str, str], list[tuple[float, str, str]]] = defaultdict(list)
    for cell in cells:
        if cell.meaning.measure in _SHARES and cell.meaning.part == "value" and not cell.unit:
            columns[cell.meaning.measure, cell.meaning.about].append((cell.value, cell.text, cell.place))
    scales = {key: share_scale(column, may_be_small=_SHARES[key[0]]) for key, column in columns.items()}
    if len({scale for (measure, _), scale in scales.items() if measure == "score"}) > 1:
        findings += [
            Finding("percent_or_share", grid.file, "", task, "is read as shares, other tasks of the table as percents.")
            for (measure, task), scale in scales.items()
            if measure == "score" and scale == 1
        ]
    # Errors and bounds are printed in the unit of their values, which may be said in the values' header or cells alone.
    percents = {(cell.meaning.measure, cell.meaning.about) for cell in cells if cell.unit == "%"}
    scales = dict.fromkeys(percents, 0.01) | scales
    return [
        replace(cell, value=round(cell.value * (0.01 if cell.unit == "%" else scales.get(key, 1.0)), 15))
        if (key := (cell.meaning.measure, cell.meaning.about))[0] in _SHARES and cell.meaning.part != "n"
        else cell
        for cell in cells
    ]


def _fact(file: str, cell: _Cell) -> Fact:
    measure, value, part = cell.meaning.measure, cell.value, cell.meaning.part
    if measure == "size_bytes":
        value *= _BYTES.get(cell.unit.casefold(), 1e9 if value < 1e5 else 1.0)
    elif measure == "top_differ":
        measure, value = "same_top_p", round(1 - value, 15) if part == "value" else value
    return Fact(
        cell.label, measure, cell.meaning.about, cell.tool, part, value, cell.meaning.source, file, cell.column,
        cell.place, cell.text,
    )  # fmt: skip
