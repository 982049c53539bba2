"""The sha256 of a file, and when it is taken from the cache."""

import hashlib
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from evalsuite.filehash import file_sha256

SETTLED = Path(sys.executable).resolve()  # a file that has lain on this disk for longer than a moment


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "evalsuite" / "hashes.sqlite3"


def chunks_read(path: Path) -> int:
    calls: list[int] = []
    file_sha256(path, progress=calls.append)
    return len(calls)


def test_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    """The hash is hashlib's, and equal bytes in another place hash alike."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"weights" * 1_000_000)
    expected = hashlib.sha256(b"weights" * 1_000_000).hexdigest()
    assert [file_sha256(tmp_path / "a"), file_sha256(tmp_path / "b")] == [expected, expected]


def test_progress_counts_up_to_the_size(tmp_path: Path) -> None:
    """Progress tells bytes read so far, growing, and ends at the file's size."""
    (tmp_path / "a").write_bytes(bytes(9_000_000))
    told: list[int] = []
    file_sha256(tmp_path / "a", progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 9_000_000


def test_a_known_file_is_not_read(cache: Path) -> None:
    """The second time nothing is read, and what the cache says is returned."""
    assert chunks_read(SETTLED) > 0
    assert chunks_read(SETTLED) == 0
    assert file_sha256(SETTLED) == hashlib.sha256(SETTLED.read_bytes()).hexdigest()


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """A file that changes right after it was hashed, in place and to the same size and times, is read again."""
    file = tmp_path / "a"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        os.utime(file, ns=(1, 1))
        assert file_sha256(file) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("damage", [b"not a database" * 100, b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_cache_is_begun_anew(cache: Path, damage: bytes) -> None:
    """A cache file that is no database is discarded, and the next hash is kept again."""
    cache.parent.mkdir(parents=True)
    cache.write_bytes(damage)
    expected = hashlib.sha256(SETTLED.read_bytes()).hexdigest()
    assert [file_sha256(SETTLED) for _ in range(3)] == [expected] * 3
    assert chunks_read(SETTLED) == 0


def test_no_cache_only_means_reading_again(cache: Path) -> None:
    """Where the cache's folder cannot be made every call reads the file."""
    cache.parent.parent.write_text("a file where the folder should be")
    assert chunks_read(SETTLED) > 0
    assert chunks_read(SETTLED) > 0


def test_a_locked_cache_does_not_stop_a_reader(cache: Path) -> None:
    """While another process writes, known files are still recalled."""
    file_sha256(SETTLED)
    with sqlite3.connect(cache, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert chunks_read(SETTLED) == 0
        other.execute("ROLLBACK")
    other.close()
