"""Running llama.cpp's programs that measure a file by themselves: one at a time, watched, ended with us."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from evalsuite.serve import guard
from evalsuite.serve.process import _PASSED_ON


@dataclass(frozen=True)
class Tool:
    """A program and how it is run: what it prints goes to `log`, and after `silence_s` without a word it is ended.

    Between two lines lie the load of a model or a batch of 2048 tokens, which may take long on a small machine.
    """

    program: Path
    threads: int
    log: Path
    gpu_layers: str = "0"
    silence_s: float = 3600.0

    def words(self, arguments: Sequence[object]) -> list[str]:
        """Return the whole command line."""
        return [str(word) for word in (self.program, *arguments, "-ngl", self.gpu_layers, "-t", self.threads)]


def run_tool(
    tool: Tool, arguments: Sequence[object], *, out: Path | None = None, watch: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Run a tool until it ends; return why that is no success, nothing where nothing is known of a failure.

    `out` takes the standard output apart from the log; `watch` is told the log as it grows.
    """
    said, since = 0, time.monotonic()
    with _child(tool.words(arguments), tool.log, out) as process:
        while process.poll() is None:
            before, said = said, _reported(tool.log, watch)
            if said > before:
                since = time.monotonic()
            elif time.monotonic() - since > tool.silence_s:
                return [f"it said nothing for {tool.silence_s:g} s and was ended"]
            time.sleep(0.2)
    _reported(tool.log, watch)
    return [f"it exited with code {process.returncode}"] if process.returncode else []


def _reported(log: Path, watch: Callable[[str], None]) -> int:
    text = log.read_text(encoding="utf-8", errors="replace")
    watch(text)
    return len(text)


@contextmanager
def _child(words: Sequence[str], log: Path, out: Path | None) -> Iterator[Popen[bytes]]:
    """Run a program for the length of a `with` block, settings and secrets kept from it."""
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON} | {"LANG": "C.UTF-8"}
    guarded = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), "0", *words]
    stdin = DEVNULL if sys.platform == "linux" else PIPE  # elsewhere the guard watches a pipe
    with (
        log.open("wb") as err,
        (out or Path(os.devnull)).open("wb") as apart,
        Popen(guarded, stdin=stdin, stdout=apart if out else err, stderr=err, env=environment) as process,
    ):
        try:
            yield process
        finally:
            if process.stdin is None:  # else the guard ends it when the pipe closes
                process.kill()
