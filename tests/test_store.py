"""The store: acknowledged rows survive kill -9, one process at a time, a full disk loses nothing, damage is noticed."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import StoreError
from evalsuite.records import Outcome, Output
from evalsuite.store import Attempt, Generation, PlanRow, Store, _dump, read_output

WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import generation
from evalsuite.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    async def write(number):
        await store.append(generation(number))
        print(number, flush=True)
    start = int(sys.argv[2])
    for batch in range(start, start + 100_000, 8):
        await asyncio.gather(*(write(number) for number in range(batch, batch + 8)))

asyncio.run(main())
"""


def generation(number: int, *, text: str = "an answer") -> Generation:
    return Generation(
        ask_key=f"ask-{number}", gen_key=f"gen-{number}", artifact_id="sha256:0", serve_id="serve", task_id="task@1",
        sample_id=str(number), repeat=0, step=0, request={"kind": "generate", "prompt": text}, prompt_sha256="0",
        output=Output(Outcome.OK, text=text), timings={"ms": 1.5}, wall_s=0.1, instance="one",
    )  # fmt: skip


def append(store: Store, *rows: Generation | Attempt) -> None:
    async def write() -> None:
        await asyncio.gather(*(store.append(row) for row in rows))

    asyncio.run(write())


def test_acknowledged_rows_survive_kill(tmp_path: Path):
    """Whatever was acknowledged before kill -9 is there afterwards, over eight kills of the same directory."""
    script = tmp_path / "writer.py"
    script.write_text(WRITER.format(tests=str(Path(__file__).parent)), encoding="utf-8")
    acknowledged: set[str] = set()
    for round_ in range(8):
        writer = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "out"), str(1_000_000 * round_)],
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = [writer.stdout.readline() for _ in range(40 + 17 * round_)]
        os.kill(writer.pid, signal.SIGKILL)
        lines += writer.stdout.read().splitlines(keepends=True)
        writer.stdout.close()
        writer.wait()
        acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
    with Store(tmp_path / "out") as store:
        kept = {ask.removeprefix("ask-") for ask in store.answers("sha256:0")}
    assert len(acknowledged) > 400
    assert acknowledged <= kept


def test_second_process_is_refused_by_name(tmp_path: Path):
    """A directory that another process holds is refused with the process that holds it."""
    with Store(tmp_path):
        code = f"from evalsuite.store import Store; from pathlib import Path; Store(Path({str(tmp_path)!r}))"
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"in use by process {os.getpid()}" in second.stderr


def test_lock_goes_with_its_process(tmp_path: Path):
    """A directory whose process was killed can be opened at once."""
    code = (
        f"from evalsuite.store import Store; from pathlib import Path; import os\n"
        f"store = Store(Path({str(tmp_path)!r})); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with Store(tmp_path) as store:
        assert store.answers("sha256:0") == {}


class SmallDisk(Store):
    """A store on a disk that has room for two more pages."""

    def _connect(self) -> sqlite3.Connection:
        db = super()._connect()
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        return db


def test_full_disk_is_told_and_loses_nothing(tmp_path: Path):
    """When the disk is full the row is refused with a StoreError; rows before it stay, and rows after it go on."""
    with Store(tmp_path) as store:
        append(store, generation(1))
    with SmallDisk(tmp_path) as store:
        with pytest.raises(StoreError, match="the disk is full"):
            append(store, generation(2, text="x" * 1_000_000))
        append(store, generation(3))
        assert set(store.answers("sha256:0")) == {"ask-1", "ask-3"}


@pytest.mark.parametrize("write", [
    lambda store: store.put_meta("plan", "x" * 1_000_000), lambda store: store.put_artifact("a", {"x": "x" * 1_000_000}),
    lambda store: store.put_proxy("a", "p", {"x": "x" * 1_000_000}), lambda store: store.log("crash", "a", "x" * 1_000_000),
    lambda store: store.serve_id("l", "s", {"x": "x" * 1_000_000}),
])  # fmt: skip
def test_full_disk_is_told_whatever_is_written(tmp_path: Path, write: Callable[[Store], object]):
    """Facts, proxies and events that find no room are refused with a StoreError as well."""
    Store(tmp_path).close()
    with SmallDisk(tmp_path) as store, pytest.raises(StoreError, match="the disk is full"):
        write(store)


def test_row_that_cannot_be_written_is_told(tmp_path: Path):
    """A row that no database takes fails alone: whoever waits for it is told, and later rows are stored."""
    odd = replace(generation(1), timings={"ms": 2**70})
    with Store(tmp_path) as store:
        with pytest.raises(StoreError, match="64-bit"):
            append(store, odd)
        append(store, generation(2))
        assert set(store.answers("sha256:0")) == {"ask-2"}


def test_removed_directory_is_told(tmp_path: Path):
    """A directory that was removed while it was open is told at the first row, without waiting for ever."""
    with Store(tmp_path / "out") as store:
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(StoreError, match="unable to open"):
            append(store, generation(1))


def test_damage_is_noticed(tmp_path: Path):
    """A database whose bytes were changed is refused, not read."""
    with Store(tmp_path) as store:
        append(store, *(generation(number, text="y" * 3000) for number in range(40)))
    database = tmp_path / "results.sqlite3"
    content = bytearray(database.read_bytes())
    content[4096 * 3 : 4096 * 3 + 2000] = b"\xff" * 2000
    database.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|malformed"):
        Store(tmp_path)


def test_newer_schema_is_refused(tmp_path: Path):
    """A database of another version is named, not guessed at."""
    with Store(tmp_path) as store:
        store.db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(StoreError, match="schema 99"):
        Store(tmp_path)


def test_first_answer_wins(tmp_path: Path):
    """An answer under a key that is taken is left out: what was acknowledged first stays."""
    with Store(tmp_path) as store:
        append(store, generation(1, text="first"))
        append(store, generation(1, text="second"))
        assert store.answers("sha256:0")["ask-1"][1].text == "first"


@given(text=st.text(), surrogate=st.booleans(), number=st.floats(allow_nan=False, allow_infinity=False))
def test_outputs_round_trip(text: str, surrogate: bool, number: float):
    """An output comes back as it was, whatever characters are in it; lone surrogates become question marks."""
    output = Output(
        Outcome.TRUNCATED, text=text + ("\ud800" if surrogate else ""), logprob=number, option_probs=(number,)
    )
    back = read_output(_dump(asdict(output)))
    assert back.text == text + ("?" if surrogate else "")
    assert (back.outcome, back.logprob, back.option_probs) == (output.outcome, number, (number,))


def test_withdrawn_answers_are_asked_again(tmp_path: Path):
    """Answers of a server that served another file are withdrawn with a trace, and count as not run."""
    with Store(tmp_path) as store:
        append(store, generation(1), generation(2))
        assert store.void("one") == 2
        assert store.answers("sha256:0") == {}
        assert store.failures()["ask-1"][0] is Outcome.NOT_RUN


def test_plan_and_scores_are_replaced_together(tmp_path: Path):
    """The table holds the new plan alone, and a sample without a score keeps its reason."""
    score = {"value": 1.0, "outcome": "ok", "answer": "42", "margin": None, "metrics": {}, "output": "42"}
    with Store(tmp_path) as store:
        store.replace_plan([PlanRow("old", "t", "s", 0, None, None, Outcome.NOT_RUN)], {})
        rows = [
            PlanRow("a", "t", "s1", 0, "c", "k", Outcome.OK),
            PlanRow("a", "t", "s2", 0, None, None, Outcome.TIMEOUT, "no reply within 60 s"),
        ]
        store.replace_plan(rows, {"k": score})
        assert [row[:8] for row in store.items()] == [
            ("a", "t", "s1", 0, "c", "ok", "", 1.0),
            ("a", "t", "s2", 0, None, "timeout", "no reply within 60 s", None),
        ]
