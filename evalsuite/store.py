"""The results store: SQLite in one directory, one writer, a row acknowledged only after its commit.

Facts are kept, conclusions recomputed. `generation` holds every answer that is a result of a model, under a key of
everything that could have changed it; failures of the machine are in `attempt` and are asked again. `plan` says what
the current sweep consists of and `score` what its answers earned; both are rewritten without asking anything.
"""

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from evalsuite.errors import StoreError
from evalsuite.records import Outcome, Output

SCHEMA = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS artifact (artifact_id TEXT PRIMARY KEY, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS serve (launch_id TEXT PRIMARY KEY, serve_id TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS generation (
    ask_key TEXT PRIMARY KEY, gen_key TEXT NOT NULL UNIQUE, artifact_id TEXT NOT NULL, serve_id TEXT NOT NULL,
    task_id TEXT NOT NULL, sample_id TEXT NOT NULL, repeat INTEGER NOT NULL, step INTEGER NOT NULL,
    request TEXT NOT NULL, prompt_sha256 TEXT NOT NULL, outcome TEXT NOT NULL, output TEXT NOT NULL,
    timings TEXT NOT NULL, wall_s REAL NOT NULL, instance TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS generation_artifact ON generation (artifact_id);
CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY, ask_key TEXT NOT NULL, outcome TEXT NOT NULL, final INTEGER NOT NULL, detail TEXT NOT NULL,
    wall_s REAL NOT NULL, instance TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS attempt_ask ON attempt (ask_key);
CREATE TABLE IF NOT EXISTS plan (
    arm TEXT NOT NULL, task TEXT NOT NULL, sample_id TEXT NOT NULL, repeat INTEGER NOT NULL, cluster TEXT,
    score_key TEXT, outcome TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (arm, task, sample_id, repeat));
CREATE TABLE IF NOT EXISTS score (
    score_key TEXT PRIMARY KEY, value REAL NOT NULL, outcome TEXT NOT NULL, answer TEXT, margin REAL,
    metrics TEXT NOT NULL, output TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS verdict (exec_key TEXT PRIMARY KEY, judged TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS proxy (
    artifact_id TEXT NOT NULL, proxy_id TEXT NOT NULL, row TEXT NOT NULL, PRIMARY KEY (artifact_id, proxy_id));
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, arm TEXT NOT NULL, detail TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Generation:
    """One answer of a model as it is stored; `request` and `timings` are JSON values."""

    ask_key: str
    gen_key: str
    artifact_id: str
    serve_id: str
    task_id: str
    sample_id: str
    repeat: int
    step: int
    request: Mapping[str, Any]
    prompt_sha256: str
    output: Output
    timings: Mapping[str, Any]
    wall_s: float
    instance: str


@dataclass(frozen=True)
class Attempt:
    """One try that gave no answer of the model; `final` when no further try follows in this run."""

    ask_key: str
    outcome: Outcome
    detail: str
    wall_s: float
    instance: str
    final: bool


@dataclass(frozen=True)
class PlanRow:
    """One planned sample of one arm, and the key of its score where it has one."""

    arm: str
    task: str
    sample_id: str
    repeat: int
    cluster: str | None
    score_key: str | None
    outcome: Outcome
    reason: str = ""


class Store:
    """A results directory, held by this process alone until it is closed."""

    def __init__(self, folder: Path) -> None:
        """Open or create; raises StoreError when another process holds it, or when it is damaged or not writable."""
        self.folder = folder
        self._path = folder / "results.sqlite3"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("a+")
        except OSError as error:
            raise StoreError(f"{folder}: cannot be written: {error.strerror}. Choose another `out`.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            self._lock.close()
            raise StoreError(f"{folder}: in use by {holder}. Wait for it, stop it, or choose another `out`.") from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()}")
        self._lock.flush()
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise
        self._queue: queue.SimpleQueue[tuple[Generation | Attempt, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        return db

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with self._spoken():
            return self.db.execute(statement, values)

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Say what the database refuses as a StoreError."""
        try:
            yield
        except sqlite3.Error as error:
            raise _store_error(self._path, error) from error

    def _open(self) -> None:
        path = self._path
        with self._spoken():
            self.db = self._connect()
            check = self.db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if check != "ok":
                raise StoreError(f"{path}: damaged ({check}). Restore a copy, or start again in another `out`.")
            self.db.executescript(_TABLES)
            self.db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
            found = int(self.db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
        if found != SCHEMA:
            raise StoreError(
                f"{path}: written by another version (schema {found}, this is {SCHEMA}). Use another `out`."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued, close, and let others in."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
            self._writer = None
        with suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()
        self._lock.truncate(0)
        self._lock.close()

    async def append(self, row: Generation | Attempt) -> None:
        """Store a row; returns once it is committed. Raises StoreError when it cannot be (a full disk)."""
        if self._writer is None:
            with self._spoken():
                # Its own connection: a transaction of the reading thread never mixes with one of the writer's.
                db = self._connect()
            self._writer = threading.Thread(target=self._write_all, args=(db,), name="store-writer")
            self._writer.start()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((row, future))
        await future

    def _write_all(self, db: sqlite3.Connection) -> None:
        """Commit in batches of what has queued up meanwhile, at most 32 rows, and acknowledge after the commit."""
        while (item := self._queue.get()) is not None:
            batch = [item]
            with suppress(queue.Empty):
                while len(batch) < 32 and (more := self._queue.get_nowait()) is not None:
                    batch.append(more)
                if len(batch) < 32:
                    self._queue.put(None)  # the end mark was taken; put it back for the outer loop
            failure: Exception | None = None
            try:
                _commit(db, [row for row, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it is
                failure = _store_error(self._path, error)
            for _, future in batch:
                with suppress(RuntimeError):  # the loop has gone: nobody waits any more
                    future.get_loop().call_soon_threadsafe(_settle, future, failure)
        db.close()

    def answers(self, artifact_id: str) -> dict[str, tuple[str, Output]]:
        """Return (gen_key, output) by ask_key of everything a model file has answered."""
        rows = self._execute("SELECT ask_key, gen_key, output FROM generation WHERE artifact_id = ?", (artifact_id,))
        return {ask: (gen, read_output(output)) for ask, gen, output in rows}

    def prompts(self, artifact_id: str) -> dict[str, str]:
        """Return the hash of the rendered prompt by ask_key of everything a model file has answered."""
        return dict(
            self._execute("SELECT ask_key, prompt_sha256 FROM generation WHERE artifact_id = ?", (artifact_id,))
        )

    def busy_ms(self, task_id: str, artifact_id: str | None, most: int = 1000) -> list[float]:
        """Return how long a slot was busy with each of the last answers to a task, of one model file or of all (None)."""
        rows = self._execute(
            "SELECT timings FROM generation WHERE task_id = ? AND ? IN (artifact_id, '') ORDER BY rowid DESC LIMIT ?",
            (task_id, artifact_id or "", most),
        )
        read = [orjson.loads(timings) for (timings,) in rows]
        return [
            each["prompt_ms"] + each["predicted_ms"] for each in read if {"prompt_ms", "predicted_ms"} <= each.keys()
        ]

    def failures(self) -> dict[str, tuple[Outcome, str]]:
        """Return the outcome and reason of the last final failure by ask_key."""
        rows = self._execute("SELECT ask_key, outcome, detail FROM attempt WHERE final ORDER BY id")
        return {ask: (Outcome(outcome), detail) for ask, outcome, detail in rows}

    def void(self, instance: str) -> int:
        """Withdraw every answer of one server instance that served another file than was asked; returns how many."""
        withdrawn = "SELECT ask_key, 'not_run', 1, 'withdrawn: the file changed under the server', 0, instance, ?"
        with self._spoken(), _transaction(self.db):
            self.db.execute(
                f"INSERT INTO attempt (ask_key, outcome, final, detail, wall_s, instance, at) {withdrawn} "
                "FROM generation WHERE instance = ?", (_now(), instance),
            )  # fmt: skip
            return self.db.execute("DELETE FROM generation WHERE instance = ?", (instance,)).rowcount

    def put_meta(self, key: str, value: Any) -> None:
        """Remember a JSON value."""
        self._execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _dump(value)))

    def get_meta(self, key: str) -> Any:
        """Return a remembered JSON value, or None."""
        row = self._execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else orjson.loads(row[0])

    def put_artifact(self, artifact_id: str, facts: Mapping[str, Any]) -> None:
        """Remember the header facts of a model file."""
        self._execute("INSERT OR REPLACE INTO artifact VALUES (?, ?)", (artifact_id, _dump(facts)))

    def artifact(self, artifact_id: str) -> Mapping[str, Any] | None:
        """Return the header facts of a model file that was seen before."""
        row = self._execute("SELECT facts FROM artifact WHERE artifact_id = ?", (artifact_id,)).fetchone()
        return None if row is None else orjson.loads(row[0])

    def serve_id(self, launch_id: str, serve_id: str, settings: Mapping[str, Any]) -> str:
        """Remember the effective settings of a launch the first time; return the id that stands for it."""
        self._execute("INSERT OR IGNORE INTO serve VALUES (?, ?, ?)", (launch_id, serve_id, _dump(settings)))
        found = self._execute("SELECT serve_id FROM serve WHERE launch_id = ?", (launch_id,)).fetchone()
        return str(found[0])

    def put_verdict(self, exec_key: str, judged: Mapping[str, Any]) -> None:
        """Remember what became of one program."""
        self._execute("INSERT OR REPLACE INTO verdict VALUES (?, ?)", (exec_key, _dump(judged)))

    def verdicts(self) -> dict[str, Mapping[str, Any]]:
        """Return what became of every program that ever ran, by its key."""
        return {key: orjson.loads(judged) for key, judged in self._execute("SELECT exec_key, judged FROM verdict")}

    def put_proxy(self, artifact_id: str, proxy_id: str, row: Mapping[str, Any]) -> None:
        """Store one measured proxy of one model file."""
        self._execute("INSERT OR REPLACE INTO proxy VALUES (?, ?, ?)", (artifact_id, proxy_id, _dump(row)))

    def proxies(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Return every measured proxy by (artifact_id, proxy_id)."""
        rows = self._execute("SELECT artifact_id, proxy_id, row FROM proxy")
        return {(artifact, proxy): orjson.loads(row) for artifact, proxy, row in rows}

    def log(self, kind: str, arm: str, detail: str = "") -> None:
        """Note an event: a start, a stop, a crash, a restart."""
        row = (_now(), kind, arm, _clean(detail))
        self._execute("INSERT INTO event (at, kind, arm, detail) VALUES (?, ?, ?, ?)", row)

    def events(self) -> list[tuple[str, str, str, str]]:
        """Return (time, kind, arm, detail) of every event in order."""
        return list(self._execute("SELECT at, kind, arm, detail FROM event ORDER BY id"))

    def replace_plan(self, rows: Iterable[PlanRow], scores: Mapping[str, Mapping[str, Any]]) -> None:
        """Put a new plan with its scores in place of the old one, in one commit.

        `scores` maps a score_key to `value, outcome, answer, margin, metrics, output`.
        """
        with self._spoken(), _transaction(self.db):
            self.db.execute("DELETE FROM plan")
            self.db.executemany(
                "INSERT INTO plan VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (r.arm, r.task, r.sample_id, r.repeat, r.cluster, r.score_key, r.outcome, _clean(r.reason))
                    for r in rows
                ],
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(key, s["value"], s["outcome"], _clean(s["answer"]), s["margin"], _dump(s["metrics"]), _clean(s["output"]))
                 for key, s in scores.items()],
            )  # fmt: skip

    def items(self) -> list[tuple[Any, ...]]:
        """Return (arm, task, sample_id, repeat, cluster, outcome, reason, value, answer, margin, metrics, output) rows.

        In the order of the plan: arm, task, sample, repeat; value is None where a sample is unscored.
        """
        return list(self._execute(
            "SELECT arm, task, sample_id, repeat, cluster, coalesce(score.outcome, plan.outcome), reason, value, answer, "
            "margin, metrics, output FROM plan LEFT JOIN score USING (score_key) ORDER BY plan.rowid"
        ))  # fmt: skip


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _commit(db: sqlite3.Connection, rows: Sequence[Generation | Attempt]) -> None:
    at = _now()
    with _transaction(db):
        for row in rows:
            if isinstance(row, Generation):
                db.execute(
                    "INSERT OR IGNORE INTO generation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (row.ask_key, row.gen_key, row.artifact_id, row.serve_id, row.task_id, row.sample_id, row.repeat,
                     row.step, _dump(row.request), row.prompt_sha256, row.output.outcome, _dump(asdict(row.output)),
                     _dump(row.timings), row.wall_s, row.instance, at),
                )  # fmt: skip
            else:
                db.execute(
                    "INSERT INTO attempt VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
                    (row.ask_key, row.outcome, row.final, _clean(row.detail), row.wall_s, row.instance, at),
                )


def read_output(text: str | bytes) -> Output:
    """Rebuild a stored output."""
    raw: dict[str, Any] = orjson.loads(text)
    raw |= {key: tuple(value) for key, value in raw.items() if isinstance(value, list)}
    return Output(**{**raw, "outcome": Outcome(raw["outcome"])})


def _settle(future: asyncio.Future[None], failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)


def _store_error(path: Path, error: Exception) -> StoreError:
    if "full" in str(error):
        return StoreError(f"{path}: the disk is full. What was acknowledged is safe; free some space and run again.")
    return StoreError(f"{path}: {error}. Check the disk, or use another `out`.")


def _clean(text: str | None) -> str | None:
    """Replace lone surrogates, which SQLite cannot store; models do write them."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _dump(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()
    except (TypeError, orjson.JSONEncodeError):  # lone surrogates
        return orjson.dumps(_cleaned(value), option=orjson.OPT_SORT_KEYS).decode()


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list | tuple) else value


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
