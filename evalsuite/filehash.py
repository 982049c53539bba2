"""The sha256 of large files, remembered for as long as a file stays untouched."""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from platformdirs import user_cache_path

_CHUNK_BYTES = 4 << 20
# A file may change twice within one tick of its clock, so a younger file is not remembered.
_SETTLED_NS = 100_000_000


def file_sha256(path: Path, *, progress: Callable[[int], None] | None = None) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits.

    The answer is kept in `hashes.sqlite3` in the user's cache directory under the file's device, inode, size, mtime
    and ctime, so that a file is read once; `progress` gets the number of bytes read so far and is not called when none
    are read. A cache that is damaged is begun anew, one that cannot be written is done without. Raises OSError when the
    file cannot be read.
    """
    with path.open("rb") as file:
        identity = _identity(file.fileno())
        known = _recall(identity)
        if known is not None:
            return known
        digest, bytes_read = hashlib.sha256(), 0
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            bytes_read += len(chunk)
            if progress is not None:
                progress(bytes_read)
        status = os.fstat(file.fileno())
        settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS
        if settled and _identity(file.fileno()) == identity:
            _remember(identity, digest.hexdigest())
    return digest.hexdigest()


def _identity(descriptor: int) -> str:
    status = os.fstat(descriptor)
    return "-".join(map(str, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)))


def _recall(identity: str) -> str | None:
    rows = _query("SELECT sha256 FROM file WHERE identity = ?", identity)
    return rows[0][0] if rows else None


def _remember(identity: str, sha256: str) -> None:
    _query("INSERT OR REPLACE INTO file VALUES (?, ?)", identity, sha256)


def _query(statement: str, *values: str) -> list[tuple[str]]:
    cache = user_cache_path("evalsuite") / "hashes.sqlite3"
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(cache, timeout=10)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS file (identity TEXT PRIMARY KEY, sha256 TEXT NOT NULL)")
            return database.execute(statement, values).fetchall()
    except (OSError, sqlite3.OperationalError):  # no such directory, not writable, locked for too long
        return []
    except sqlite3.DatabaseError:  # not a database, or a damaged one
        with suppress(OSError):
            cache.unlink()
        return []
