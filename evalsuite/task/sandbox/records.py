"""What a sandbox is given and what it gives back; nothing here holds an expected answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How one test of a program ended. Whether a finished one is right is decided outside, by comparing."""

    FINISHED = "finished"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    NOT_REACHED = "not_reached"  # an earlier test stopped the run


class Verdict(StrEnum):
    """What a checker made of a solution."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong_answer"
    SYNTAX_ERROR = "syntax_error"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"


@dataclass(frozen=True)
class Limits:
    """What one test may use: seconds by the clock, bytes of address space, bytes written to each of stdout and stderr.

    CPU seconds are limited to `wall_s`, rounded up, plus one. A returned value may be as long as an output.
    """

    wall_s: float
    memory_bytes: int = 4 << 30
    output_bytes: int = 1 << 20


@dataclass(frozen=True)
class Program:
    """Source text. `prelude` runs before it in the same namespace, once for all tests, and is trusted.

    `packages` names installed distributions that the program may import; nothing else of ours is importable.
    """

    source: str
    prelude: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class StdinTest:
    """Run the program with these bytes on standard input; its answer is what it prints."""

    stdin: bytes


@dataclass(frozen=True)
class CallTest:
    """Call a function of the program, or a method of a new object of its class `method_of`; the answer is the value."""

    function: str
    arguments: tuple[Any, ...]
    method_of: str | None = None


Test = StdinTest | CallTest


@dataclass(frozen=True)
class TestResult:
    """How one test ended: the bytes printed, the value returned (None from a `StdinTest`), and why it did not finish."""

    __test__ = False  # pytest collects by name

    status: Status
    output: bytes = b""
    value: Any = None
    detail: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True)
class Execution:
    """One result a test, in their order. `syntax_error` says why nothing could run; then no test was reached.

    `starved`: a test ran out of time with the processor its own for less than half of it. `rerun`: that happened beside
    other work, and this is what came of running it once more alone.
    """

    results: tuple[TestResult, ...]
    syntax_error: str | None = None
    starved: bool = False
    rerun: bool = False


@dataclass(frozen=True)
class Checked:
    """What a checker made of a solution, why, and after how many calls; `starved` and `rerun` as of an `Execution`."""

    verdict: Verdict
    detail: str = ""
    calls: int = 0
    wall_s: float = 0.0
    starved: bool = False
    rerun: bool = False


@dataclass(frozen=True)
class Description:
    """What stood between a program and this machine; stored with every score.

    `kind` is `bubblewrap`, `container`, `landlock` or `none`; `fixed` holds the limits that are the same for all tasks.
    """

    kind: str
    version: str
    interpreter: str
    interpreter_sha256: str
    fixed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launch:
    """A command that starts the driver, what it needs around it, and what the driver is told about its place.

    `drop_uid` starts the command as nobody. `place` holds `path` (what is importable), `clean` (directories emptied after
    every test) and, for Landlock, `readable`.
    """

    command: tuple[str, ...]
    environ: Mapping[str, str]
    place: Mapping[str, Any]
    drop_uid: bool = False


@dataclass(frozen=True)
class Sandbox:
    """A place to run programs, found to hold. `launch` gives the command that starts it with some packages in it."""

    description: Description
    launch: Callable[[tuple[str, ...]], Launch]
