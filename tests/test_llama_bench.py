"""llama-bench: its JSON is read whatever keys a build has, and a sweep runs it on every quant.

`llama-bench.json` was written by llama.cpp b11434 (`-p 64 -n 8 -r 2 -o json -t 1 -ngl 0`), the file's path taken out.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import Bench

from evalsuite.cli import main
from evalsuite.errors import MachineError
from evalsuite.proxy.llama_bench import bench_row, run_bench
from evalsuite.proxy.programs import Tool
from evalsuite.serve.llama_cpp import LlamaCpp

GOLD = Path(__file__).parent / "gold" / "llama-bench.json"


@pytest.fixture
def tests() -> list[dict[str, Any]]:
    """The tests that a real run printed."""
    return json.loads(GOLD.read_text(encoding="utf-8"))


def test_speeds_are_the_programs_own(tests):
    """The means are those that llama-bench prints itself, the errors its standard deviations over √r."""
    row = bench_row(tests, pp=64, tg=8)
    reading, writing = tests
    assert (row.pp_tps, row.tg_tps) == pytest.approx((reading["avg_ts"], writing["avg_ts"]), rel=1e-5)
    errors = np.array([reading["stddev_ts"], writing["stddev_ts"]]) / np.sqrt(2)
    assert [row.pp_tps_se, row.tg_tps_se] == pytest.approx(errors, rel=1e-3)
    assert (row.tool, row.corpus, row.kld_mean) == ("llama-bench", None, None)
    assert row.notes == ("tokens a second reading 64 and writing 8 tokens (backends CPU, n_threads 1)",)


def test_keys_of_other_builds(tests):
    """Unknown keys change nothing; without the repetitions the mean stands alone; without a test there is no speed."""
    more = [{**test, "power_w": 3} for test in tests]
    assert bench_row(more, pp=64, tg=8) == bench_row(tests, pp=64, tg=8)
    fewer = [{key: test[key] for key in ("n_prompt", "n_gen", "avg_ts")} for test in tests[:1]]
    row = bench_row(fewer, pp=64, tg=8)
    assert (row.pp_tps, row.pp_tps_se, row.tg_tps, row.tg_tps_se) == (tests[0]["avg_ts"], None, None, None)
    assert "settings not told" in row.notes[0]
    assert row.notes[1:] == ("tg is not in its output",)


def test_one_repetition_has_no_error(tests):
    """A single repetition says nothing of how much they differ."""
    row = bench_row([{**tests[0], "samples_ts": [127.605]}], pp=64, tg=8)
    assert (row.pp_tps, row.pp_tps_se) == (127.605, None)


def program(folder: Path, body: str) -> Path:
    """Write a stand-in for llama-bench, a program of its own."""
    path = folder / "llama-bench"
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            "sys.stderr.write('E main: failed to load model\\n'); sys.exit(1)",
            "exited with code 1.*failed to load model",
        ),
        (f"print(open({str(GOLD)!r}).read()); sys.exit(3)", "exited with code 3"),
        ("print('| model | t/s |')", "its output is not a list of tests"),
        ("print('[3]')", "its output is not a list of tests"),
    ],
)
def test_failed_run_is_an_error(tmp_path, body, problem):
    """A run that ends with a code, or prints something else, is an error with the program's own last words."""
    with pytest.raises(MachineError, match=f"(?s)llama-bench: .*{problem}"):
        run_bench(Tool(program(tmp_path, body), threads=1, log=tmp_path / "log"), Path("q.gguf"), pp=64, tg=8)


def benching(bench: Bench) -> Path:
    entry = {"tool": "llama-bench", "pp": 64, "tg": 8}
    return bench.write(tasks=["ends"], replicate_reference=False, proxies=[entry])


def test_sweep_measures_every_quant(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch):
    """`proxies` runs it once on each quant, prints reading and writing, and tells of one that fails."""
    program(
        bench.fake,
        f"""
if "small.gguf" in sys.argv[2]: sys.exit(1)
print(open({str(GOLD)!r}).read() if sys.argv[3:7] == ["-p", "64", "-n", "8"] else "")""",
    )
    words = ["evalsuite", "proxies", str(benching(bench)), "--llama-cpp", str(bench.fake)]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 1
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        [quant, "–", "llama-bench", "pp", "t/s", "131.851000", "tg", "t/s", "78.009700"] for quant in ("ref", "big")
    ]
    assert "small: llama-bench: it exited with code 1" in said.err


def test_build_without_it_says_so(bench: Bench):
    """Where the build lacks the program everything else is done, and the way to get it is told."""
    benching(bench)
    finished = bench.run()
    assert [arm.status for arm in finished.arms] == ["ok"] * 3
    (problem,) = finished.problems
    assert problem.startswith("llama-bench: llama-bench is not there")
    assert "evalsuite llama-cpp build" in problem


@pytest.mark.llama_cpp
@pytest.mark.live
def test_real_run(llama_cpp: LlamaCpp, smollm2: Path, tmp_path: Path):
    """The real program gives both speeds with their errors."""
    row = run_bench(Tool(llama_cpp.tools["bench"], threads=1, log=tmp_path / "log"), smollm2, pp=32, tg=4)
    assert min(row.pp_tps, row.tg_tps) > 0
    assert row.pp_tps_se is not None
    assert row.tg_tps_se is not None
