"""What a table of the page is made of: text that is ready to print, beside what it sorts by."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalsuite.analysis.columns import PROXY_NAMES
from evalsuite.numbers import ABSENT, coefficient, decimals, p_value, percent, points, width

Row = Mapping[str, Any]

MARKS = {
    "worse": "▼", "better": "▲", "mixed": "◆", "equivalent": "≈", "undecided": "○", "supported": "●", "refuted": "✕",
    "misleading": "✕", "consistent": "✓", "works": "●", "blind here": "✕", "cannot tell": "○", "differ": "≠",
    "agree": "=", "first": "◀", "second": "▶", "indistinguishable": "≈", "too few quants": "○", "left out": "–",
}  # fmt: skip
"""A sign for each verdict: none is told by its colour alone."""

TONES = {
    "worse": "worse", "misleading": "worse", "blind here": "worse", "differ": "worse", "refuted": "worse",
    "better": "better", "consistent": "better", "works": "better", "agree": "better", "first": "better",
    "second": "better", "equivalent": "equal", "indistinguishable": "equal", "left out": "undecided",
}  # fmt: skip
"""The colour class of a verdict; the others are grey."""

OTHER_NAMES: Mapping[str, str] = {**PROXY_NAMES, "size": "file size", "random": "a random pick"}
"""What may stand where a proxy does."""

SHOWN_CELLS = 6000
"""The largest table on the page; analysis.json has the rest."""


@dataclass(frozen=True)
class Column:
    """A heading, what it means, and whether numbers stand below it."""

    text: str
    hint: str = ""
    number: bool = True


@dataclass(frozen=True)
class Cell:
    """What is printed and what it sorts by; `tone` is a class of the style sheet or empty."""

    text: str
    sort: float | str = ""
    tone: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells below their columns; the first cell of a row names it."""

    identity: str
    heading: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def shown(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows that the page has room for, from the first."""
        return self.rows[: max(SHOWN_CELLS // len(self.columns), 50)]


@dataclass(frozen=True)
class Field:
    """A column and how a row fills it."""

    column: Column
    cell: Callable[[Row], Cell]


def table(identity: str, heading: str, caption: str, rows: Iterable[Row], fields: Iterable[Field]) -> Table:
    """Fill a table; a column in which no row has a value is left out, unless it is the first."""
    rows = list(rows)
    columns = [(field.column, [field.cell(row) for row in rows]) for field in fields]
    kept = [
        (column, cells)
        for index, (column, cells) in enumerate(columns)
        if index == 0 or any(cell.text != ABSENT for cell in cells)
    ]
    filled = zip(*(cells for _, cells in kept), strict=True)
    return Table(identity, heading, caption, tuple(column for column, _ in kept), tuple(filled))


def words(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of words as they are."""
    return Field(Column(heading, hint, number=False), lambda row: text_cell(row.get(key)))


def task(key: str = "task", heading: str = "task") -> Field:
    """Return a column of tasks, the mean of them without its brackets."""
    return Field(Column(heading, number=False), lambda row: Cell(task_name(row[key]), row[key]))


def proxy(key: str = "proxy", heading: str = "proxy") -> Field:
    """Return a column of proxies as a reader knows them, each with its text."""
    return Field(Column(heading, number=False), lambda row: text_cell(proxy_label(row[key], row.get("corpus"))))


def verdict(heading: str, key: str = "verdict", hint: str = "") -> Field:
    """Return a column of verdicts, each with its sign."""
    return Field(Column(heading, hint, number=False), lambda row: verdict_cell(row.get(key)))


def number(heading: str, key: str, write: Callable[[float | None], str], hint: str = "") -> Field:
    """Return a column of numbers, written by `write`."""
    return Field(Column(heading, hint), lambda row: number_cell(write(row.get(key)), row.get(key)))


def count(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of counts."""
    return number(heading, key, lambda value: ABSENT if value is None else f"{value:,.0f}", hint)


def rho(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of correlations."""
    return number(heading, key, coefficient, hint)


def level(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of shares that cannot be negative, without a sign."""
    return number(heading, key, lambda value: coefficient(value).removeprefix("+"), hint)


def p(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of p-values."""
    return number(heading, key, p_value, hint)


def share(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of shares in percent."""
    return number(heading, key, percent, hint)


def delta(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of differences in points, with their sign."""
    return number(heading, key, points, hint)


def size(heading: str, key: str, hint: str = "") -> Field:
    """Return a column of sizes in points, without a sign."""
    return number(heading, key, width, hint)


def measure(heading: str, key: str, hint: str = "", digits: int = 3) -> Field:
    """Return a column of measurements to so many significant digits."""
    return number(heading, key, lambda value: decimals(value, digits), hint)


def span(
    heading: str, low: str, high: str, write: Callable[[float | None], str] = coefficient, hint: str = ""
) -> Field:
    """Return a column of intervals."""
    return Field(
        Column(heading, hint), lambda row: number_cell(limits(row.get(low), row.get(high), write), row.get(low))
    )


def ratio(heading: str, part: str, whole: str, hint: str = "") -> Field:
    """Return a column of counts of counts: `17 of 19`."""
    return Field(Column(heading, hint), lambda row: _ratio_cell(row.get(part), row.get(whole)))


def yes(heading: str, key: str, mark: str, hint: str = "") -> Field:
    """Return a column that has `mark` where the row says so."""
    return Field(Column(heading, hint, number=False), lambda row: Cell(mark, mark) if row.get(key) else Cell(ABSENT))


def notes() -> Field:
    """Return the column of a row's notes."""

    def noted(row: Row) -> Cell:
        text = "; ".join(row.get("notes") or ())
        return Cell(text, text, "note") if text else Cell(ABSENT)

    return Field(Column("note", number=False), noted)


def limits(low: float | None, high: float | None, write: Callable[[float | None], str]) -> str:
    """Write an interval, the unit only once."""
    if low is None or high is None:
        return ABSENT
    return f"[{write(low).removesuffix(' %')}, {write(high).removesuffix(' %')}]"


def text_cell(value: Any) -> Cell:
    """Return a cell of words; nothing at all shows as such."""
    return Cell(str(value), str(value)) if present(value) else Cell(ABSENT)


def number_cell(text: str, value: float | None) -> Cell:
    """Return a cell of a number, to sort by its value."""
    return Cell(text, float(f"{value:.9g}") if present(value) else "")


def verdict_cell(verdict: str | None) -> Cell:
    """Return a cell of a verdict with its sign and its tone."""
    if verdict is None:
        return Cell(ABSENT)
    return Cell(f"{MARKS.get(verdict, '○')} {verdict}", verdict, TONES.get(verdict, "undecided"))


def present(value: Any) -> bool:
    """Say whether there is a value: not None and not NaN."""
    return value is not None and value == value  # noqa: PLR0124 - NaN


def task_name(task: str) -> str:
    """Name a task; the mean of the tasks stands in brackets in the tables, never on the page."""
    return task.strip("()")


def proxy_label(name: str, corpus: str | None) -> str:
    """Name a proxy as a reader knows it, with its text; a name that is not ours stays as it is."""
    return OTHER_NAMES.get(name, name) + (f" on {corpus}" if corpus else "")


def first_upper(text: str) -> str:
    """Return a text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def _ratio_cell(part: float | None, whole: float | None) -> Cell:
    if part is None or whole is None:
        return Cell(ABSENT)
    return Cell(f"{part:,.0f} of {whole:,.0f}", part / whole if whole else "")


def ordered(values: Sequence[str], first: str) -> list[str]:
    """Return the distinct values in their order, `first` before all others where it is among them."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct, key=lambda value: value != first)
