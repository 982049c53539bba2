"""Files as grids of cells: CSV, TSV, tables with `;`, tables pasted from a web page, JSONL and Parquet."""

import codecs
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.errors import SpecError

_PIPE = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[\s|:=-]*-[\s|:=-]*")
_LINK = re.compile(r"!?\[([^][]*)\]\([^()]*\)")
_QUOTED = re.compile(r'"[^"]*"')
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Grid:
    """One table of a file: the header as it is printed, and below it the cells as they are stored.

    `file` is the name that messages use. `turned` says that rows and columns were exchanged after reading.
    """

    file: str
    header: tuple[str, ...]
    rows: pd.DataFrame
    turned: bool = False

    def place(self, row: int, quant: str, column: str) -> str:
        """Say where a cell stands; the header is row 1."""
        if self.turned:
            return f"{self.file}: row {shown(column)}, column {shown(quant)}"
        return f"{self.file}: row {row + 2} ({quant}), column {shown(column)}"


def read_grids(path: Path, file: str) -> list[Grid]:
    """Return the tables of a file, which messages call `file`; a Markdown file may hold several.

    Raises SpecError for a file that cannot be read, is no table, or has rows of differing lengths.
    """
    content = read_bytes(path)
    if content.startswith(b"PAR1"):
        return [_grid(file, _parquet(file, content))]
    text = _decoded(file, content)
    if path.suffix in {".jsonl", ".ndjson"} or text.lstrip().startswith("{"):
        return [_grid(file, _json_lines(file, text))]
    # A CSV of a model's answers may hold tables of this kind, so the first line has to look like one.
    may_be_pasted = path.suffix in {".md", ".txt"} or "|" in text.lstrip().partition("\n")[0]
    return [_pasted_grid(file, cells) for cells in _pasted(text) if may_be_pasted] or [_delimited(file, text)]


def read_json_lines(path: Path, file: str) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file. Raises SpecError naming the line that is none."""
    return _objects(file, _decoded(file, read_bytes(path)))


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes. Raises SpecError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}. Give the path of a table.") from error


def shown(text: str, most: int = 60) -> str:
    """Quote a cell for a message, shortened."""
    return repr(text if len(text) <= most else f"{text[:most]}…")


def text_of(value: Any) -> str:
    """Return a cell as text, without blanks around it: empty where there is no value."""
    return verbatim(value).strip()


def verbatim(value: Any) -> str:
    """Return a cell as text: empty where there is no value."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or value != value:  # noqa: PLR0124 - NaN
        return ""
    return json.dumps(value, default=str) if isinstance(value, dict | list | bool) else str(value)


def _decoded(file: str, content: bytes) -> str:
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{file}: is not UTF-8 text (byte {error.start}). Save the table as CSV in UTF-8.") from error
    if "\0" in text:
        raise SpecError(f"{file}: holds NUL characters, so it is no text table. Save it as CSV, JSONL or Parquet.")
    return text


def _parquet(file: str, content: bytes) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(content)).reset_index(drop=True)
    # pyarrow says that a file is damaged in a dozen ways, and its errors have no base but Exception.
    except Exception as error:
        raise SpecError(f"{file}: cannot be read as Parquet ({type(error).__name__}). Write it again.") from error


def _json_lines(file: str, text: str) -> pd.DataFrame:
    objects = _objects(file, text)
    names = list(dict.fromkeys(name for each in objects for name in each))
    return pd.DataFrame({name: pd.Series([each.get(name) for each in objects], dtype=object) for name in names})


def _objects(file: str, text: str) -> list[dict[str, Any]]:
    objects = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SpecError(f"{file}:{number}: is not JSON. Write one JSON object a line.") from error
            if not isinstance(value, dict):
                raise SpecError(f"{file}:{number}: is not a JSON object. Write one object a line, a key a column.")
            objects.append(_written(value) if "\\u" in line else value)
    return objects


def _written(value: Any) -> Any:
    """Replace half characters, which JSON can escape and no file can hold."""
    match value:
        case str():
            return _SURROGATE.sub("\ufffd", value)
        case list():
            return [_written(inner) for inner in value]
        case dict():
            return {_written(key): _written(inner) for key, inner in value.items()}
    return value


def _pasted(text: str) -> list[list[list[str]]]:
    """Return the tables written with pipes: lines that follow each other, the second one a rule."""
    tables: list[list[str]] = [[]]
    for line in text.splitlines():
        if "|" in line:
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    return [
        [[_plain(cell) for cell in _PIPE.split(line.strip().removeprefix("|").removesuffix("|"))] for line in lines]
        for head, rule, *body in (lines for lines in tables if len(lines) > 1)
        if _RULE.fullmatch(rule)
        for lines in ([head, *body],)
    ]


def _plain(cell: str) -> str:
    return _LINK.sub(r"\1", cell).replace("\\|", "|").replace("**", "").replace("`", "").strip()


def _pasted_grid(file: str, cells: list[list[str]]) -> Grid:
    head, *body = cells
    longest = max((len(row) for row in body), default=0)
    if longest > len(head):
        raise SpecError(f"{file}: a row has {longest} cells under a header of {len(head)}. Name every column.")
    rows = [row + [""] * (len(head) - len(row)) for row in body]
    return _grid(file, pd.DataFrame(rows, columns=head, dtype=object))


def _delimited(file: str, text: str) -> Grid:
    first = _QUOTED.sub("", next((line for line in text.splitlines() if line.strip()), ""))
    separator = max("\t;,", key=first.count)
    try:
        frame = pd.read_csv(
            io.StringIO(text.lstrip("\r\n")), sep=separator, header=None, dtype=str, keep_default_na=False, na_filter=False,
            skip_blank_lines=False, index_col=False,
        )  # fmt: skip
    except pd.errors.EmptyDataError as error:
        raise SpecError(f"{file}: is empty. Give a table with a header and rows.") from error
    except pd.errors.ParserError as error:
        detail = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise SpecError(f"{file}: {detail}. Quote cells that hold {separator!r} or a line break.") from error
    return _grid(file, frame.iloc[1:].reset_index(drop=True).set_axis(list(frame.iloc[0]), axis=1))


def _grid(file: str, frame: pd.DataFrame) -> Grid:
    if frame.empty:
        raise SpecError(f"{file}: holds no rows. Give a table with a header and rows.")
    header = tuple(_SURROGATE.sub("\ufffd", str(name)).strip() for name in frame.columns)
    return Grid(file, header, frame.set_axis(range(len(header)), axis=1))
