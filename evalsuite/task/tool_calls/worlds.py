"""The simulated worlds of BFCL's conversations, asked through a process that may be killed."""

import atexit
import json
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

SECONDS = 10.0
"""What one request may take; a call with large numbers may never end."""

WorldCall = tuple[str, Sequence[Any], Mapping[str, Any]]
"""A call: its name, positional and named arguments."""


class Simulation:
    """A process that answers requests, started again after one that did not end in time."""

    def __init__(self, package: Path) -> None:
        """`package` is the folder that holds `bfcl_eval`."""
        self._package = package
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self.stop)

    def results(self, world: Mapping[str, Any], calls: Sequence[WorldCall]) -> list[str] | None:
        """Return what each call gives, from fresh worlds on; None where it did not end in time."""
        told = self._ask({"world": world, "calls": calls})
        return None if told is None else list(told["results"])

    def failed(
        self, world: Mapping[str, Any], turns: Sequence[Sequence[WorldCall]], truth: Sequence[Sequence[WorldCall]]
    ) -> tuple[int, str] | None:
        """Return the first turn whose calls do not do what the wanted ones do, and why; None where all do."""
        told = self._ask({"world": world, "turns": turns, "truth": truth})
        if told is None:
            return 0, "the simulation did not end"
        return None if told["failed"] is None else (int(told["failed"][0]), str(told["failed"][1]))

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, request: Mapping[str, Any]) -> Any:
        if self._process is None:
            worker = Path(__file__).with_name("simulated.py")
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(worker), str(self._package)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, encoding="utf-8", env={}, cwd="/",
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], SECONDS)[0] and (line := process.stdout.readline()):
                return json.loads(line)
        except BrokenPipeError:
            pass  # it ran out of memory
        self.stop()
        return None


@cache
def simulation(package: Path) -> Simulation:
    """Return the process for a package, the same for all who ask."""
    return Simulation(package)
