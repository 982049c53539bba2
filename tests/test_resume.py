"""Whatever is killed at whatever moment: nothing is asked twice, nothing is lost, nothing is left behind."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from toys import HURRY, Bench, make_bench, toy_gguf

from evalsuite.store import Store
from evalsuite.sweep import open_sweep, run_sweep

RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from toys import HURRY
from evalsuite.store import Store
from evalsuite.sweep import open_sweep, run_sweep

path, fake = Path(sys.argv[1]), Path(sys.argv[2])
with Store(path.parent / "results") as store:
    run_sweep(open_sweep(path, store, llama_cpp=fake), patience=HURRY)
"""


def start_runner(bench: Bench) -> subprocess.Popen[bytes]:
    script = bench.folder / "runner.py"
    script.write_text(RUNNER.format(tests=str(Path(__file__).parent)), encoding="utf-8")
    with (bench.folder / "runner.log").open("ab") as log:
        return subprocess.Popen([sys.executable, str(script), str(bench.write()), str(bench.fake)], stderr=log)


def servers_of(bench: Bench) -> list[int]:
    """The process ids of servers that serve a model of this bench."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(bench.folder / "models").encode() in command and b"evalsuite.serve.fake" in command:
            found.append(int(entry.name))
    return found


def stored(bench: Bench) -> dict[str, str]:
    """The time at which each answer was stored, by key."""
    with Store(bench.folder / "results") as store:
        return dict(store.db.execute("SELECT ask_key, at || instance FROM generation"))


def crashes(bench: Bench) -> int:
    """How many crashes the runner has recorded so far, read beside it."""
    database = bench.folder / "results" / "results.sqlite3"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db, suppress(sqlite3.OperationalError):
        return int(db.execute("SELECT count(*) FROM event WHERE kind = 'crash'").fetchone()[0])
    return 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """The final table of a run that nothing interrupts."""
    bench = make_bench(tmp_path_factory.mktemp("undisturbed"), size=12)
    assert bench.run().is_complete
    return bench.items()


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds stray servers through /proc")
def test_runner_killed_at_twenty_moments(tmp_path: Path, undisturbed: list[tuple[object, ...]]):
    """Kill -9 of the runner at 20 random moments: acknowledged answers stay as they are, no server is left behind, and
    the final table is that of an uninterrupted run.
    """
    bench = make_bench(tmp_path, size=12)
    bench.faults({"delay_s": 0.05})
    rng = random.Random(7)
    before: dict[str, str] = {}
    for _ in range(20):
        runner = start_runner(bench)
        seen, patience = len(before), time.monotonic() + 60
        while runner.poll() is None and time.monotonic() < patience:  # die while asking, not while importing
            if (tmp_path / "results" / "logs").exists() and servers_of(bench):
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.8))
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        deadline = time.monotonic() + 5
        while servers_of(bench) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert servers_of(bench) == []
        after = stored(bench)
        assert {key: after[key] for key in before} == before
        before = after
        assert len(before) >= seen
    assert bench.run().is_complete
    final = stored(bench)
    assert {key: final[key] for key in before} == before
    assert bench.items() == undisturbed


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the server through /proc")
def test_server_killed_ten_times(tmp_path: Path, undisturbed: list[tuple[object, ...]]):
    """Kill -9 of the server at 10 random moments: it is restarted, and the table is that of an uninterrupted run.

    A sample that was under way at three of them is left unscored, since it may be what kills; the next run asks it.
    """
    bench = make_bench(tmp_path, size=12)
    bench.faults({"delay_s": 0.2})
    rng = random.Random(8)
    runner = start_runner(bench)
    killed: set[int] = set()
    while runner.poll() is None and crashes(bench) < 10:
        for pid in set(servers_of(bench)) - killed:
            time.sleep(rng.uniform(0.5, 2.5))  # some die over the first questions, most in the middle of work
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.02)
    assert runner.wait(timeout=240) == 0
    assert crashes(bench) >= 10  # those that die after their last answer are no crash
    before = stored(bench)
    assert bench.run().is_complete
    assert bench.items() == undisturbed
    assert {key: stored(bench)[key] for key in before} == before


def test_second_run_asks_nothing(bench: Bench):
    """A second run of a finished sweep starts no server and gives the same report."""
    first = bench.run()
    again = bench.run()
    assert all(arm.new == 0 and arm.reused == arm.planned for arm in again.arms)
    assert again.analysis["scores"] == first.analysis["scores"]
    with Store(bench.folder / "results") as store:
        assert [kind for _, kind, _, _ in store.events()].count("start") == 4


def test_larger_limit_asks_only_the_rest(bench: Bench):
    """A limit that grows keeps the answers of the smaller subset, which is part of the larger one."""
    bench.write(tasks=[{"task": "ends", "limit": 2}])
    bench.run()
    bench.write(tasks=["ends"])
    finished = bench.run()
    assert {(arm.reused, arm.new) for arm in finished.arms} == {(2, 2)}


def test_same_file_under_another_path_is_reused(bench: Bench):
    """The same bytes under another path and name are the same quant: nothing is asked again."""
    bench.run()
    (bench.folder / "models" / "small.gguf").rename(bench.folder / "moved.gguf")
    bench.write(quants=["models/big.gguf", {"name": "tiny", "path": "moved.gguf"}])
    finished = bench.run(accept_changes=True)
    assert {arm.arm: arm.new for arm in finished.arms} == {"ref": 0, "ref (again)": 0, "big": 0, "tiny": 0}


def test_another_build_asks_again(bench: Bench, tmp_path: Path):
    """Answers of one build of the server never stand for those of another."""
    bench.run()
    with (bench.fake / "llama-server").open("a") as script:
        script.write("# another build\n")
    finished = bench.run(accept_changes=True)
    assert all(arm.reused == 0 for arm in finished.arms)


def test_file_replaced_during_the_run_is_noticed(bench: Bench):
    """A GGUF that is replaced while it is served voids what it answered, and the arm says why."""
    bench.faults({"delay_s": 0.3})
    bench.write(tasks=["ends"], replicate_reference=False)
    replaced = []

    class Replace:
        def total(self, samples: int) -> None: ...
        def say(self, text: str) -> None: ...
        def advance(self, samples: int = 1) -> None: ...

        def phase(self, arm: str, doing: str) -> None:
            if arm == "small" and doing == "ends" and not replaced:
                replaced.append(
                    toy_gguf(bench.folder / "new.gguf", weight=0.75).replace(bench.folder / "models" / "small.gguf")
                )

    with Store(bench.folder / "results") as store:
        opened = open_sweep(bench.write(), store, llama_cpp=bench.fake)
        finished = run_sweep(opened, progress=Replace(), patience=HURRY)
    small = next(arm for arm in finished.arms if arm.arm == "small")
    assert small.status == "failed"
    assert "was replaced while it was served" in small.reason
    assert small.new == 0
    assert {row[5] for row in bench.items() if row[0] == "small"} == {"not_run"}


def test_file_replaced_after_it_was_read_is_noticed(bench: Bench):
    """A GGUF that is replaced between the check of the sweep and its turn is not served under the old one's name."""
    bench.write(tasks=["ends"], replicate_reference=False)
    with Store(bench.folder / "results") as store:
        opened = open_sweep(bench.write(), store, llama_cpp=bench.fake)
        toy_gguf(bench.folder / "new.gguf", weight=0.75).replace(bench.folder / "models" / "small.gguf")
        finished = run_sweep(opened, patience=HURRY)
    assert {arm.arm: arm.status for arm in finished.arms} == {"ref": "ok", "big": "ok", "small": "failed"}
    assert "was replaced since it was read" in finished.arms[2].reason


def test_file_replaced_between_runs_is_noticed(bench: Bench):
    """A GGUF that was replaced under the same path is another quant: told before anything is asked."""
    bench.run()
    toy_gguf(bench.folder / "models" / "small.gguf", weight=0.75)
    with pytest.raises(Exception, match="quants small is not what it was"):
        bench.run()
    finished = bench.run(accept_changes=True)
    assert {arm.arm: arm.new for arm in finished.arms}["small"] == 12
