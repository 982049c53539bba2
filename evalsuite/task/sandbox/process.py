"""The parent's side of one sandbox: start the driver, send, wait with a deadline, kill; nothing it says is trusted."""

import json
import math
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from types import TracebackType
from typing import Any, Self

from evalsuite.errors import MachineError
from evalsuite.task.sandbox.driver import frame, read_frame
from evalsuite.task.sandbox.records import Launch, Limits, Program, Sandbox, Status, TestResult
from evalsuite.task.sandbox.seccomp import ARCHITECTURES, no_fork_filter

GRACE_S = 2.0
"""What the driver gets beyond a limit to notice it and to say so."""
START_S = 60.0
SAID_BYTES = 64 << 20
"""How long an argument or a value between a checker and a solution may be."""
NOBODY = 65534


class LostError(Exception):
    """The driver has ended, broken the protocol (`time_limit` false), or not answered in time (true)."""

    def __init__(self, *, time_limit: bool) -> None:
        super().__init__("the sandbox did not answer in time" if time_limit else "the program ended its sandbox")
        self.time_limit = time_limit


class Driver:
    """One sandbox with a program in it. The thread that starts it must outlive it, or the kernel ends it."""

    def __init__(self, sandbox: Sandbox, program: Program, limits: Limits, *, said_bytes: int) -> None:
        """Start it and hand it the program without waiting. Raises MachineError where it does not start."""
        self.limits, self.said_bytes = limits, said_bytes
        launch = sandbox.launch(program.packages)
        self._process, self._socket, self._errors = spawn(launch)
        given = {
            "wall_s": limits.wall_s,
            "cpu_s": math.ceil(limits.wall_s) + 1,
            "memory_bytes": limits.memory_bytes,
            "output_bytes": limits.output_bytes,
            "said_bytes": said_bytes,
        }
        setup = {"place": launch.place, "limits": given, "prelude": program.prelude}
        with suppress(LostError):  # `loaded` tells why
            self.send(setup, _filter(), START_S)
            self.send({}, program.source.encode("utf-8", "surrogatepass"), START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)
        self._socket.close()
        self._errors.close()

    def loaded(self) -> str | None:
        """Wait until tests can run; the reason where the program does not compile. Raises MachineError."""
        try:
            ready, _ = self.receive(START_S)
        except LostError as error:
            raise MachineError(f"the sandbox did not start: {self.last_words() or error}") from error
        if "ready" not in ready:
            raise MachineError(f"the sandbox could not be set up: {ready.get('error')}")
        try:
            compiled, _ = self.receive(self.limits.wall_s + GRACE_S)
        except LostError as error:
            return f"compiling did not end well: {error}"
        return str(compiled["syntax_error"]) if "syntax_error" in compiled else None

    def send(self, header: Mapping[str, Any], payload: bytes, timeout_s: float) -> None:
        """Send a message. Raises LostError."""
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(frame(header, payload))
        except OSError as error:
            raise LostError(time_limit=isinstance(error, TimeoutError)) from error

    def receive(self, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """Wait for a message. Raises LostError."""
        deadline = time.monotonic() + timeout_s

        def read(size: int) -> bytes:
            data = bytearray()
            while len(data) < size:
                self._socket.settimeout(max(1e-3, deadline - time.monotonic()))
                part = self._socket.recv(min(size - len(data), 1 << 20))
                if not part:
                    raise ConnectionResetError
                data += part
            return bytes(data)

        try:
            return read_frame(read, 1 << 16, max(self.limits.output_bytes, self.said_bytes))
        except (OSError, ValueError, RecursionError) as error:
            raise LostError(time_limit=isinstance(error, TimeoutError)) from error

    def last_words(self) -> str:
        """Return what the back end wrote to its standard error."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        self._errors.seek(0)
        return str(self._errors.read(4096).decode("utf-8", "replace")).strip()


_AS_NOBODY: Mapping[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def spawn(launch: Launch) -> tuple[subprocess.Popen[bytes], socket.socket, Any]:
    """Start a driver and return its process, our end of the channel, and the file with its standard error."""
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the driver's `with`
    try:
        with theirs:
            process = subprocess.Popen(
                launch.command, env=launch.environ, stdin=theirs, stdout=theirs, stderr=errors, cwd="/",
                start_new_session=True, **(_AS_NOBODY if launch.drop_uid else {}),  # type: ignore[call-overload]
            )  # fmt: skip
    except OSError as error:
        ours.close()
        errors.close()
        raise MachineError(f"{launch.command[0]} did not start: {error.strerror}") from error
    return process, ours, errors


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a driver, its group, and with them everything in its namespace."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def result_of(header: Mapping[str, Any], output: bytes) -> TestResult:
    """Read how a test ended. Raises LostError where the message is not of that kind."""
    try:
        cpu_s, wall_s = float(header["cpu_s"]), float(header["wall_s"])
        if not (0 <= cpu_s < math.inf and 0 <= wall_s < math.inf):
            raise ValueError("impossible times")  # noqa: TRY301
        return TestResult(
            Status(header["status"]), output, detail=str(header["detail"])[:300], cpu_s=cpu_s, wall_s=wall_s
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LostError(time_limit=False) from error


def lost(error: LostError, wall_s: float) -> TestResult:
    """Return the result of a test whose sandbox was lost."""
    return TestResult(Status.TIME_LIMIT if error.time_limit else Status.RUNTIME_ERROR, detail=str(error), wall_s=wall_s)


def starved(result: TestResult) -> bool:
    """Tell whether a test ran out of time without having had the processor for half of it."""
    return result.status is Status.TIME_LIMIT and result.cpu_s < result.wall_s / 2


def read_said(payload: bytes) -> dict[str, Any]:
    """Read what a program said. Raises LostError where it is no JSON object."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise LostError(time_limit=False) from error
    if not isinstance(message, dict):
        raise LostError(time_limit=False)
    return message


@cache
def driver_source() -> str:
    """Return the text of the driver, to be run with `python -c`."""
    return files(__package__).joinpath("driver.py").read_text(encoding="utf-8")


@cache
def _filter() -> bytes:
    """Return the filter where this architecture has one; the canaries tell whether it can be done without."""
    return no_fork_filter() if os.uname().machine in ARCHITECTURES and os.uname().sysname == "Linux" else b""
