"""Rows of published datasets: from local files in several layouts, whole or not at all."""

import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalsuite.errors import MachineError, SpecError
from evalsuite.task.datasets import DatasetEntry, read_dataset

ENTRY = DatasetEntry(
    hub="nobody/nothing", splits={"test": "data/test-*.parquet", "validation": "data/validation-*.parquet"},
    rows={"test": 2}, optional=("validation",),
)  # fmt: skip
ROWS = [{"id": 1, "text": "a\u2028b\x85c"}, {"id": 2, "text": "é"}]
LINES = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS).encode()


def _write(folder: Path, layout: str) -> Path:
    match layout:
        case "parquet":
            (folder / "data").mkdir()
            pq.write_table(pa.Table.from_pylist(ROWS), folder / "data" / "test-00000-of-00001.parquet")
        case "jsonl":
            (folder / "test.jsonl").write_bytes(LINES)
        case "gzip":
            (folder / "test_first.jsonl.gz").write_bytes(gzip.compress(LINES, mtime=0))
        case "json":
            (folder / "test.json").write_text(json.dumps(ROWS))
        case _:
            (folder / "rows.jsonl").write_bytes(LINES)
            return folder / "rows.jsonl"
    return folder


@pytest.mark.parametrize("layout", ["parquet", "jsonl", "gzip", "json", "one file"])
def test_every_layout_gives_the_same_rows(tmp_path: Path, layout: str):
    """The hub's layout, JSONL, JSON, gzip and a single file hold the same rows, line separators inside strings untouched."""
    dataset = read_dataset(ENTRY, _write(tmp_path, layout), where="t")
    assert (list(dataset.splits["test"]), dataset.splits["validation"], dataset.notes) == (ROWS, [], ())


def test_the_revision_is_the_hash_of_the_unpacked_bytes(tmp_path: Path):
    """Packing changes no revision; one byte of content does."""
    packed = read_dataset(ENTRY, _write(tmp_path, "gzip"), where="t").sha256
    assert packed == hashlib.sha256(LINES).hexdigest()
    other = tmp_path / "other.jsonl"
    other.write_bytes(LINES.replace(b'"id": 2', b'"id": 3'))
    assert read_dataset(ENTRY, other, where="t").sha256 != packed


def test_other_row_counts_are_noted(tmp_path: Path):
    """Data with fewer rows than were published is taken, and said to be a part."""
    (tmp_path / "test.jsonl").write_bytes(LINES.split(b"\n")[0])
    assert read_dataset(ENTRY, tmp_path, where="t").notes == ("t: 1 of the 2 published rows of split 'test'",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("test.jsonl", LINES[:-5], "test.jsonl:2: not JSON"),
        ("test.jsonl", b"[1]\n", "test.jsonl:1: an object was expected, got list"),
        ("test.jsonl", b"\n", "holds no rows"),
        ("test.jsonl.gz", gzip.compress(LINES, mtime=0)[:-12], "damaged or cut short"),
        ("test.jsonl.gz", LINES, "damaged or cut short"),
        ("test.parquet", b"PAR1 nothing", "damaged or cut short"),
        ("other.jsonl", LINES, "no split 'test'"),
    ],
)
def test_damaged_data_is_refused(tmp_path: Path, name: str, content: bytes, said: str):
    """A file that is cut short, damaged, empty or of another name is refused with its place, never read in part."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=said):
        read_dataset(ENTRY, tmp_path, where="t")


def test_no_data_at_all_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the hub, its cache or local files the message names all three ways; a wrong path is the user's."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(MachineError, match=r"neither in the hub's cache nor to be fetched.*--data t=PATH"):
        read_dataset(ENTRY, None, where="t")
    with pytest.raises(SpecError, match="no such file or folder"):
        read_dataset(ENTRY, tmp_path / "gone", where="t")
