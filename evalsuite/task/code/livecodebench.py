"""LiveCodeBench: problems of programming contests, their tests, and the comparison of what a program gives.

Prompt, prelude and rules of comparison are those of LiveCodeBench 28fef95 (MIT), which the tests pin by hash. Its grader
runs a program inside its own process with patched input; here each test is a process with a real standard input.
"""

import base64
import inspect
import io
import json
import pickle
import zlib
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from evalsuite.errors import SpecError
from evalsuite.records import Sample
from evalsuite.task.code import patched
from evalsuite.task.code.extract import official_program
from evalsuite.task.code.records import Exam
from evalsuite.task.datasets import Dataset
from evalsuite.task.sandbox.pool import CheckJob, ExecuteJob
from evalsuite.task.sandbox.records import (
    CallTest,
    Checked,
    Execution,
    Limits,
    Program,
    Status,
    StdinTest,
    Test,
    TestResult,
    Verdict,
)

SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a correct "
    "Python program that matches the specification and passes all tests."
)
WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters."
)
FROM_STDIN = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample inputs). "
    "Enclose your code within delimiters as follows. Ensure that when the python program runs, it reads the inputs, runs the "
    "algorithm and writes output to STDOUT."
)
_MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
PRELUDE = "".join(
    [
        *(f"from {name} import *\n" for name in _MODULES),
        *(f"import {name}\n" for name in _MODULES[:-2]),
        "sys.setrecursionlimit(50000)\n",
    ]
)
_DIGITS = "sys.set_int_max_str_digits(50000)\n"
LIMITS = Limits(wall_s=6.0)
_MOST_BYTES = 256 << 20
_MOST_SAID = 64 << 20
"""Bytes that upstream's way of running may give for all tests of a problem together."""


def livecodebench(dataset: Dataset, options: Mapping[str, Any]) -> list[Sample]:
    """Turn LiveCodeBench's rows into upstream's `generic` conversation; the stratum is difficulty and platform.

    `since` and `until` (ISO dates) bound the contest's day; `leave_out` names problems, by id or title, that cannot be
    judged. Private tests stay packed until a program is judged.
    """
    since, until = (date.fromisoformat(str(options.get(key, fallback))) for key, fallback in
                    (("since", "0001-01-01"), ("until", "9999-12-31")))  # fmt: skip
    samples = []
    for row in dataset.splits["test"]:
        day = date.fromisoformat(row["contest_date"][:10])
        if not since <= day <= until or {str(row["question_id"]), row["question_title"]} & {
            *options.get("leave_out", ())
        }:
            continue
        function = json.loads(row["metadata"] or "{}").get("func_name")
        samples.append(Sample(
            str(row["question_id"]), _asked(row),
            {"public": row["public_test_cases"], "private": row["private_test_cases"], "function": function},
            stratum=f"{row['difficulty']} {row['platform']}", metadata={"date": day.isoformat()},
        ))  # fmt: skip
    if not samples:
        raise SpecError(f"no problem lies between {since} and {until}.")
    return samples


def _asked(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    how, code = (WITH_STARTER, row["starter_code"]) if row["starter_code"] else (FROM_STDIN, "# YOUR CODE HERE")
    text = (
        f"### Question:\n{row['question_content']}\n\n### Format: {how}\n```python\n{code}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )
    return ({"role": "system", "content": SYSTEM}, {"role": "user", "content": text})


class _OnlyText(pickle.Unpickler):
    """Reads a pickled string and refuses whatever names a class."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"refused {module}.{name}")


def private_tests(field: str) -> list[Mapping[str, str]]:
    """Return the private tests of a row: JSON, or JSON as a pickled string, compressed, in base64.

    No class is ever looked up, and nothing larger than 256 MB is unpacked. Raises SpecError that says what is wrong.
    """
    try:
        return list(json.loads(field))
    except ValueError:
        pass
    try:
        return list(json.loads(_unpacked(field)))
    except (ValueError, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise SpecError(f"private tests cannot be read: {error}. Is the file damaged?") from error


def _unpacked(field: str) -> str:
    unpacking = zlib.decompressobj()
    raw = unpacking.decompress(base64.b64decode(field, validate=True), _MOST_BYTES)
    if not unpacking.eof:
        raise ValueError(f"cut short, or above {_MOST_BYTES >> 20} MB")
    text = _OnlyText(io.BytesIO(raw)).load()
    if not isinstance(text, str):
        raise ValueError(f"a string was expected, got {type(text).__name__}")  # noqa: TRY004 - bad data
    return text


@lru_cache(maxsize=8)
def _cases(public: str, private: str) -> tuple[Mapping[str, str], ...]:
    return (*json.loads(public), *private_tests(private))


def _tests(sample: Sample) -> tuple[Sequence[Mapping[str, str]], str | None]:
    target = sample.target
    return _cases(target["public"], target["private"]), target["function"]


def _job(sample: Sample, source: str) -> ExecuteJob | CheckJob:
    cases, function = _tests(sample)
    tests: tuple[Test, ...]
    if function is None:
        tests = tuple(StdinTest(case["input"].encode()) for case in cases)
    else:
        owner = "Solution" if "class Solution" in source else None
        tests = tuple(
            CallTest(function, tuple(json.loads(line) for line in case["input"].split("\n")), owner) for case in cases
        )
    return ExecuteJob(
        Program(source, PRELUDE + _DIGITS),
        tests,
        LIMITS,
        stop=lambda index, result: not _right(cases[index], result, function),
    )


def _judge(sample: Sample, outcome: Execution | Checked) -> tuple[Verdict, str, int, int | None]:
    if not isinstance(outcome, Execution):
        raise TypeError("results of tests were expected")
    cases, function = _tests(sample)
    if outcome.syntax_error is not None:
        return Verdict.SYNTAX_ERROR, outcome.syntax_error, 0, len(cases)
    for number, (case, result) in enumerate(zip(cases, outcome.results, strict=True)):
        if not _right(case, result, function):
            verdict = Verdict.WRONG_ANSWER if result.status is Status.FINISHED else Verdict(result.status.value)
            return verdict, f"test {number + 1} of {len(cases)}: {result.detail}".rstrip(": "), number, len(cases)
    return Verdict.PASSED, "", len(cases), len(cases)


def _right(case: Mapping[str, str], result: TestResult, function: str | None) -> bool:
    if result.status is not Status.FINISHED:
        return False
    if function is None:
        return same_output(result.output.decode("utf-8", "replace"), case["output"])
    value = list(result.value) if isinstance(result.value, tuple) else result.value
    return bool(value == json.loads(case["output"]))


def same_output(given: str, wanted: str) -> bool:
    """Compare as upstream does: as many lines, each equal without blanks at its ends, or equal as lists of decimals."""
    lines, expected = (text.strip().split("\n") for text in (given, wanted))
    return len(lines) == len(expected) and all(
        line.strip() == other.strip() or (_decimals(line) is not None and _decimals(line) == _decimals(other))
        for line, other in zip(lines, expected, strict=True)
    )


def _decimals(line: str) -> list[Decimal] | None:
    try:
        return [Decimal(word) for word in line.split()]
    except InvalidOperation:
        return None


def _official_job(sample: Sample, source: str) -> ExecuteJob | CheckJob:
    cases, function = _tests(sample)
    limits = Limits(wall_s=(patched.SECONDS + 1.0) * len(cases) + 5, output_bytes=_MOST_SAID)
    asked = CallTest("run", (source, PRELUDE, [case["input"] for case in cases], function))
    return ExecuteJob(Program(inspect.getsource(patched)), (asked,), limits)


def _judge_official(sample: Sample, outcome: Execution | Checked) -> tuple[Verdict, str, int, int | None]:
    if not isinstance(outcome, Execution):
        raise TypeError("results of tests were expected")
    cases, function = _tests(sample)
    result = outcome.results[0]
    if result.status is not Status.FINISHED or not isinstance(result.value, list):
        verdict = Verdict.RUNTIME_ERROR if result.status is Status.FINISHED else Verdict(result.status.value)
        return verdict, result.detail, 0, len(cases)
    failed = {"time": Verdict.TIME_LIMIT, "error": Verdict.RUNTIME_ERROR}
    for number, (case, (kind, given)) in enumerate(zip(cases, result.value, strict=False)):
        if kind != "output":
            return failed[kind], f"test {number + 1} of {len(cases)}: {given}", number, len(cases)
        wanted = case["output"]
        if not (same_output(given, wanted) if function is None else bool(given == json.loads(wanted))):
            return Verdict.WRONG_ANSWER, f"test {number + 1} of {len(cases)}", number, len(cases)
    return Verdict.PASSED, "", len(cases), len(cases)


OFFICIAL = Exam(
    "livecodebench_official", 1, _official_job, _judge_official, extract=lambda text: official_program(text) or None
)
"""What upstream's grader would say, but that its memory is limited and no expected output lies in reach of the program."""

LIVECODEBENCH = Exam("livecodebench", 1, _job, _judge, official=OFFICIAL)
