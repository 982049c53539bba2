"""A checker and a solution in two sandboxes: the calls of the one are carried to the other, and only the first may pass it."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from evalsuite.errors import SpecError
from evalsuite.task.sandbox.process import GRACE_S, SAID_BYTES, Driver, LostError, lost, read_said, result_of, starved
from evalsuite.task.sandbox.records import Checked, Limits, Program, Sandbox, Status, TestResult, Verdict

_VERDICTS = {
    Status.FINISHED: Verdict.WRONG_ANSWER,
    Status.RUNTIME_ERROR: Verdict.RUNTIME_ERROR,
    Status.TIME_LIMIT: Verdict.TIME_LIMIT,
    Status.MEMORY_LIMIT: Verdict.MEMORY_LIMIT,
    Status.OUTPUT_LIMIT: Verdict.OUTPUT_LIMIT,
}


def checked(sandbox: Sandbox, solution: Program, entry_point: str, checker: Program, limits: Limits) -> Checked:
    """Run a checker whose `entry_point` is the solution's function, which it calls as if it were its own.

    The name is bound after the checker's prelude has run, so that a prelude may hold a stub of the same name. Arguments
    and values cross as data; an exception crosses by its class and message; what a call changes in its arguments is
    changed for the checker too. The verdict is `passed` only where the checker comes to its end and says the word that it
    alone was given. The limits hold for each of the two. Raises SpecError where the checker itself does not compile,
    MachineError where a sandbox does not start.
    """
    start = time.monotonic()
    with (
        Driver(sandbox, checker, limits, said_bytes=SAID_BYTES) as judge,
        Driver(sandbox, solution, limits, said_bytes=SAID_BYTES) as candidate,
    ):
        if error := judge.loaded():
            raise SpecError(f"the checker of {entry_point} does not compile: {error}")
        if error := candidate.loaded():
            return Checked(Verdict.SYNTAX_ERROR, error)
        verdict, detail, calls, tired = _carry(judge, candidate, entry_point)
    return Checked(verdict, detail, calls, time.monotonic() - start, tired)


def _carry(judge: Driver, candidate: Driver, entry_point: str) -> tuple[Verdict, str, int, bool]:
    """Carry calls until one side has ended. Both clocks start here, and the drivers keep them."""
    nonce, calls = secrets.token_hex(16), 0
    answer = _ask(candidate, {"mode": "serve", "function": entry_point})
    if isinstance(answer, TestResult):
        return _ended(answer, "the solution", calls)
    question = _ask(judge, {"mode": "check", "function": entry_point, "nonce": nonce})
    while isinstance(question, bytes):
        message = _said(question)
        if message.get("passed") == nonce:
            return Verdict.PASSED, "", calls, False
        if "failed" in message:
            raised_inside = message["failed"] == "solution"
            return (
                Verdict.RUNTIME_ERROR if raised_inside else Verdict.WRONG_ANSWER,
                str(message["detail"]),
                calls,
                False,
            )
        calls += 1
        answer = _ask(candidate, {}, question)
        if isinstance(answer, TestResult):
            return _ended(answer, "the solution", calls)
        question = _ask(judge, {}, answer)
    return _ended(question, "the checker", calls)


def _ask(driver: Driver, header: Mapping[str, Any], payload: bytes = b"") -> bytes | TestResult:
    """Send one message and return what the program says to it, or how it ended instead."""
    start = time.monotonic()
    try:
        driver.send(header, payload, driver.limits.wall_s + GRACE_S)
        reply, said = driver.receive(driver.limits.wall_s + GRACE_S)
        return said if "said" in reply else result_of(reply, b"")
    except LostError as error:
        return lost(error, time.monotonic() - start)


def _said(payload: bytes) -> Mapping[str, Any]:
    try:
        return read_said(payload)
    except LostError:
        return {"failed": "checker", "detail": "the checker said something that is no message"}


def _ended(result: TestResult, who: str, calls: int) -> tuple[Verdict, str, int, bool]:
    """Read how a program ended; one that ends early by itself has not passed, whatever its exit code."""
    detail = result.detail or ("it ended early" if result.status is Status.FINISHED else str(result.status))
    return _VERDICTS[result.status], f"{who}: {detail}", calls, starved(result)
