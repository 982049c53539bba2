"""Tasks whose answer is a program: what is asked, which program is taken, and what judges it."""

import base64
import hashlib
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import MachineError, SpecError
from evalsuite.outputs import grade
from evalsuite.records import Outcome, Output
from evalsuite.task.code.extract import official_program, program
from evalsuite.task.code.livecodebench import FROM_STDIN, PRELUDE, SYSTEM, WITH_STARTER, private_tests, same_output
from evalsuite.task.sandbox.backends import open_sandbox
from evalsuite.task.sandbox.records import Sandbox
from evalsuite.task.tasks import Task, read_task, task_folders

STDIN = [
    {"input": "3\n1 2 3\n", "output": "6\n", "testtype": "stdin"},
    {"input": "1\n5\n", "output": "5", "testtype": "stdin"},
]
CALL = [{"input": "[2, 7]\n9", "output": "[0, 1]", "testtype": "functional"}]
SECRET = [{"input": "2\n10 20\n", "output": "30", "testtype": "stdin"}]


def _packed(tests: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def _row(
    name: str, *, public: Any, private: str, starter: str = "", metadata: str = "{}", day: str = "2025-02-01"
) -> dict[str, str]:
    return {
        "question_title": name, "question_content": f"Solve {name}.", "platform": "atcoder", "question_id": name,
        "contest_id": "c", "contest_date": f"{day}T00:00:00", "starter_code": starter, "difficulty": "easy",
        "public_test_cases": json.dumps(public), "private_test_cases": private, "metadata": metadata,
    }  # fmt: skip


ROWS = [
    _row("sum", public=STDIN, private=_packed(SECRET)),
    _row("two", public=CALL, private="[]", starter="class Solution:\n    def pair(self, nums, total):",
         metadata='{"func_name": "pair"}'),
]  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Sandbox:
    """A sandbox that holds; without one there is nothing to run programs in."""
    try:
        return open_sandbox()
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture
def contest(tmp_path: Path) -> Task:
    """LiveCodeBench on two problems in the hub's layout."""
    (tmp_path / "test6.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return read_task(task_folders()["livecodebench"], data=tmp_path)


@pytest.fixture
def functions(tmp_path: Path) -> Task:
    """HumanEval on one function whose checker uses a helper of the stub."""
    row = {
        "task_id": "HumanEval/0", "entry_point": "double",
        "prompt": 'def helper(x):\n    return x + x\n\n\ndef double(xs):\n    """Double."""\n',
        "test": "def check(candidate):\n    assert candidate([1, 2]) == [helper(1), helper(2)]\n",
    }  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    return read_task(task_folders()["humaneval"], data=tmp_path)


def _verdicts(task: Task, place: Sandbox, *programs: tuple[str, str]) -> list[tuple[float, str]]:
    samples = {sample.sample_id: sample for sample in task.samples}
    answered = [(samples[name], (Output(Outcome.OK, f"```python\n{source}\n```"),)) for name, source in programs]
    return [(each.score.value, each.score.metrics["verdict"]) for each in grade(task, answered, lambda: place)]


def test_the_prompt_is_upstreams(contest: Task):
    """Messages, format sentences and prelude are upstream's, by the hashes of its strings; both kinds of problem are asked."""
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (SYSTEM, WITH_STARTER, FROM_STDIN, PRELUDE)]
    assert hashes == ["d39e6e9b11d2ac7e", "0aa7131f428c2376", "b72556f2e5865749", "de326da583c8d651"]
    asked = {sample.sample_id: sample.prompt[1]["content"] for sample in contest.samples}
    assert asked["sum"] == (
        f"### Question:\nSolve sum.\n\n### Format: {FROM_STDIN}\n```python\n# YOUR CODE HERE\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )
    assert f"{WITH_STARTER}\n```python\nclass Solution:\n    def pair(self, nums, total):\n```\n\n" in asked["two"]


def test_programs_that_read_a_real_input_pass(contest: Task, place: Sandbox):
    """Public and private tests pass however standard input is read and output is written; a wrong program does not."""
    late = "from __future__ import division\ndef go():\n    global f\n    f = open(0)\ngo()\nf.readline()\n"
    late += "print(sum(map(int, f.read().split())))"
    right = [
        "import sys\nrows = list(sys.stdin)\nprint(sum(map(int, rows[1].split())))",
        "import sys\nd = sys.stdin.buffer.read().split()\nsys.stdout.buffer.write(str(sum(map(int, d[1:]))).encode())",
        "import os\nn = int(input())\nos.write(1, str(sum(map(int, input().split()))).encode())",
        late,
        "if __name__ == '__main__':\n    input()\n    print(float(sum(map(int, input().split()))))",
    ]
    assert _verdicts(contest, place, *(("sum", source) for source in right)) == [(1, "passed")] * len(right)
    wrong = {
        "print(6)": "wrong_answer", "print(undefined)": "runtime_error", "print(": "syntax_error",
        "raise SystemExit(0)": "wrong_answer", "while True: pass": "time_limit", "print('x' * 3_000_000)": "output_limit",
    }  # fmt: skip
    assert _verdicts(contest, place, *(("sum", source) for source in wrong)) == [(0, each) for each in wrong.values()]


UPSTREAM = [
    ("n = int(input())\nprint(sum(map(int, input().split())))", 1),
    ("import sys\nd = sys.stdin.read().split()\nprint(sum(map(int, d[1:])))", 1),
    ("import sys\nd = sys.stdin.readlines()\nprint(sum(map(int, d[1].split())))", 1),
    ("import sys\nd = sys.stdin.buffer.read().split()\nprint(sum(map(int, d[1:])))", 1),
    ("import sys\ninput()\nprint(sum(map(int, sys.stdin.readline().split())))\nexit()\nprint('never')", 1),
    ("def main():\n    input()\n    print(sum(map(int, input().split())))\nif __name__ == '__main__':\n    main()", 1),
    # From here on right programs that upstream's grader fails.
    ("import sys\nrows = list(sys.stdin)\nprint(sum(map(int, rows[1].split())))", 0),
    ("import sys\nr = sys.stdin.buffer.readline\nr()\nprint(sum(map(int, r().split())))", 0),
    ("total = 0\ndef go():\n    global total\n    input()\n    total = sum(map(int, input().split()))\ngo()\nprint(total)", 0),
    ("d = open(0).read().split()\nprint(sum(map(int, d[1:])))", 0),
    ("import sys\ninput()\nsys.stdout.buffer.write(str(sum(map(int, input().split()))).encode())", 0),
    ("from __future__ import annotations\ninput()\nprint(sum(map(int, input().split())))", 0),
    ("import os\ninput()\nos.write(1, str(sum(map(int, input().split()))).encode())", 0),
    ("import os\ninput()\nprint(sum(map(int, input().split())), flush=True)\nos._exit(0)", 0),
    ("try:\n    while True:\n        row = input()\nexcept EOFError:\n    pass\nprint(row)", 0),
]  # fmt: skip
"""Programs with upstream's verdict; the last is wrong by any."""


def test_upstreams_verdicts_are_reproduced(contest: Task, place: Sandbox):
    """`official` is what LiveCodeBench's grader says, its known faults included, and `disagrees` where ours differs."""
    samples = {sample.sample_id: sample for sample in contest.samples}
    answered = [(samples["sum"], (Output(Outcome.OK, f"```python\n{source}\n```"),)) for source, _ in UPSTREAM]
    scores = [each.score for each in grade(contest, answered, lambda: place)]
    assert [score.metrics["official"] for score in scores] == [official for _, official in UPSTREAM]
    assert [score.value for score in scores] == [1] * (len(UPSTREAM) - 1) + [0]
    assert all(score.metrics["disagrees"] == (score.value != score.metrics["official"]) for score in scores)


def test_upstream_takes_another_program_and_keeps_one_object(contest: Task, place: Sandbox):
    """Upstream reads between the last two fences whatever they hold, and a `Solution` remembers what the last test left."""
    good = "class Solution:\n    def pair(self, nums, total):\n        return (0, 1)"
    two = next(sample for sample in contest.samples if sample.sample_id == "two")
    remembers = good.replace("return (0, 1)", "self.seen = getattr(self, 'seen', 0) + 1\n        return [0, self.seen]")
    answers = [
        f"```python\n{good}\n```", f"```python\n{good}\n```\nIt prints\n```text\nnothing\n```", f"```python\n{good}",
        f"```python\n{remembers}\n```", "```python\nclass Solution: pass\n```", "no program",
    ]  # fmt: skip
    graded = grade(contest, [(two, (Output(Outcome.OK, text),)) for text in answers], lambda: place)
    assert [(each.score.value, each.score.metrics["official"]) for each in graded] == [
        (1, 1), (1, 0), (1, 0), (1, 1), (0, 0), (0, 0)
    ]  # fmt: skip


def test_functions_are_called_and_compared_outside(contest: Task, place: Sandbox):
    """A tuple for a list passes, another value, an object that equals everything and a missing method do not."""
    body = "class Solution:\n    def pair(self, nums, total):\n        return "
    assert _verdicts(
        contest, place, ("two", body + "(0, 1)"), ("two", body + "[1, 0]"),
        ("two", "class Any:\n    __eq__ = lambda *_: True\n" + body + "Any()"), ("two", "class Solution: pass"),
    ) == [(1, "passed"), (0, "wrong_answer"), (0, "wrong_answer"), (0, "runtime_error")]  # fmt: skip


def test_checkers_run_apart_from_the_function(functions: Task, place: Sandbox):
    """A whole function and a body that goes on from the stub pass; wrong values, early exits and forged equality do not."""
    assert _verdicts(
        functions, place,
        ("HumanEval/0", "def double(xs):\n    return [2 * x for x in xs]"),
        ("HumanEval/0", "    return [helper(x) for x in xs]"),
        ("HumanEval/0", "def double(xs):\n    return [3 * x for x in xs]"),
        ("HumanEval/0", "import os\ndef double(xs):\n    os._exit(0)"),
        ("HumanEval/0", "class E:\n    __eq__ = lambda *_: True\ndef double(xs):\n    return E()"),
        ("HumanEval/0", "def other(xs):\n    return xs"),
    ) == [
        (1, "passed"), (1, "passed"), *[(0, "wrong_answer")] * 4,
    ]  # fmt: skip


def test_no_sandbox_is_no_score(contest: Task):
    """Where programs cannot be run they are unscored for the machine's sake; an answer without a program earns 0."""
    sample = contest.samples[0]
    held = contest.score(sample, (Output(Outcome.OK, "```python\nprint(1)\n```"),), None)
    assert held.outcome is Outcome.NOT_RUN
    none = contest.score(sample, (Output(Outcome.OK, "I cannot."),), None)
    assert (none.value, none.outcome, none.metrics["verdict"]) == (0, Outcome.UNPARSED, "no_code")


class Nasty:
    """Pickles as a call of a class."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("reached",))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (base64.b64encode(zlib.compress(pickle.dumps(Nasty()))).decode(), r"refused builtins.print"),
        (base64.b64encode(zlib.compress(pickle.dumps([1]))).decode(), "a string was expected, got list"),
        (_packed(SECRET)[:-8], "cannot be read"),
        ("not base64!", "cannot be read"),
        (base64.b64encode(zlib.compress(b"junk")).decode(), "cannot be read"),
    ],
)
def test_packed_tests_are_read_without_trust(field: str, said: str, capsys: pytest.CaptureFixture[str]):
    """Private tests that name a class, hold no text or are cut short are refused, and nothing in them runs."""
    with pytest.raises(SpecError, match=said):
        private_tests(field)
    assert capsys.readouterr().out == ""


def test_packed_and_plain_tests_are_the_same():
    """Plain JSON and the packed form give equal tests."""
    assert private_tests(_packed(SECRET)) == private_tests(json.dumps(SECRET)) == SECRET


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ("1 2\n3\n", "1 2\n3", True), ("  1 2  \n3", "1 2\n3", True), ("1.0 2", "1 2.00", True), ("1e3", "1000", True),
        ("50000000000000000", "50000000000000001", False), ("1\n2", "1 2", False), ("1\n\n2", "1\n2", False),
        ("YES", "Yes", False), ("1  2", "1 2", True), ("a  b", "a b", False), ("nan", "nan", True), ("", "", True),
    ],
)  # fmt: skip
def test_outputs_are_compared_as_upstream_does(given: str, wanted: str, same: bool):
    """Lines without blanks at their ends, else lists of decimals, exactly; the number of lines must be equal."""
    assert same_output(given, wanted) is same


@pytest.mark.parametrize(
    ("text", "source", "rule", "official"),
    [
        ("Sure:\n```python\nx = 1\n```\nDone.", "x = 1\n", "fenced", "x = 1"),
        ("```py\na\n```\nBetter:\n```python\nb\n```", "b\n", "fenced", "b"),
        ("```python\nb\n```\nrun with\n```bash\npython b.py\n```", "b\n", "fenced", "python b.py"),
        ("```python\nx = '''\n", "x = '''\n", "unclosed", ""),
        ("def f():\n    return 1", "def f():\n    return 1", "bare", ""),
        ("I cannot do that.", None, "none", ""),
        ("```\nplain\n```", "plain\n", "fenced", "plain"),
    ],
)
def test_the_program_of_an_answer(text: str, source: str | None, rule: str, official: str):
    """The last closed Python block is the program, then one that is cut off, then bare code; upstream's choice may differ."""
    assert (program(text), official_program(text)) == ((source, rule), official)


def test_a_window_of_days(tmp_path: Path):
    """`since` and `until` keep the problems of those days, both included, and an empty window is refused."""
    from evalsuite.task.code.livecodebench import livecodebench  # noqa: PLC0415
    from evalsuite.task.datasets import Dataset  # noqa: PLC0415

    rows = [_row(day, public=[], private="[]", day=day) for day in ("2024-12-31", "2025-01-01", "2025-01-31")]
    data = Dataset({"test": rows}, "")
    kept = livecodebench(data, {"since": "2025-01-01", "until": "2025-01-31"})
    assert [sample.sample_id for sample in kept] == ["2025-01-01", "2025-01-31"]
    with pytest.raises(SpecError, match="no problem lies between"):
        livecodebench(data, {"since": "2026-01-01"})
