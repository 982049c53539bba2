"""A program through its tests: one sandbox for all of them, a process for each, and a decision between them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalsuite.task.sandbox.driver import Foreign, decode, encode
from evalsuite.task.sandbox.process import GRACE_S, Driver, LostError, lost, read_said, result_of, starved
from evalsuite.task.sandbox.records import (
    Execution,
    Limits,
    Program,
    Sandbox,
    Status,
    StdinTest,
    Test,
    TestResult,
)


def unfinished(_: int, result: TestResult) -> bool:
    """Stop at the first test that did not finish."""
    return result.status is not Status.FINISHED


def execute(
    sandbox: Sandbox,
    program: Program,
    tests: Sequence[Test],
    limits: Limits,
    *,
    stop: Callable[[int, TestResult], bool] = unfinished,
) -> Execution:
    """Run a program through its tests, in order, each from a fresh start.

    After every test `stop` is told its index and result and decides whether the rest is still worth running: it knows
    what is expected, the sandbox does not. A program that ends its own sandbox loses the tests that follow.
    Raises MachineError where the sandbox does not start or a package is not installed.
    """
    results: list[TestResult] = []
    with Driver(sandbox, program, limits, said_bytes=limits.output_bytes) as driver:
        error = driver.loaded()
        for index, test in enumerate(tests if error is None else ()):
            result, alive = _run(driver, test)
            results.append(result)
            if not alive or stop(index, result):
                break
    missing = len(tests) - len(results)
    return Execution((*results, *[TestResult(Status.NOT_REACHED)] * missing), error, starved=any(map(starved, results)))


def _run(driver: Driver, test: Test) -> tuple[TestResult, bool]:
    """Run one test, and tell whether another can follow."""
    start = time.monotonic()
    deadline = start + driver.limits.wall_s + GRACE_S
    said: dict[str, Any] = {}
    try:
        driver.send(*_message(test), deadline - time.monotonic())
        header, payload = driver.receive(deadline - time.monotonic())
        while "said" in header:
            said = said or read_said(payload)
            header, payload = driver.receive(deadline - time.monotonic())
        result = result_of(header, payload)
    except LostError as error:
        return lost(error, time.monotonic() - start), False
    return (result if isinstance(test, StdinTest) else _with_value(result, said)), True


def _message(test: Test) -> tuple[Mapping[str, Any], bytes]:
    if isinstance(test, StdinTest):
        return {"mode": "stdin"}, test.stdin
    arguments = json.dumps(encode(test.arguments)).encode()
    return {"mode": "call", "function": test.function, "method_of": test.method_of}, arguments


def _with_value(result: TestResult, said: Mapping[str, Any]) -> TestResult:
    """Add the value that a call returned; a program that ends before it returns has one that equals nothing."""
    if result.status is not Status.FINISHED:
        return result
    if not said:
        return replace(result, value=Foreign("nothing", "it ended before it returned"))
    try:
        return replace(result, value=decode(said["value"]))
    except (KeyError, ValueError) as error:
        return replace(result, status=Status.RUNTIME_ERROR, detail=f"no value that can be read: {error}")
