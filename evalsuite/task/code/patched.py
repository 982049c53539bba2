"""Run a program as LiveCodeBench's own grader does, in one process with patched input; what it gives is compared elsewhere.

It stands alone: its source is what the sandbox is given. What it reproduces, faults included, is LiveCodeBench 28fef95's
`testing_util.py` (MIT): imports are hoisted and run before the input is patched, the rest becomes the body of a function;
`sys.stdin` has no iterator and `readline` gives no line end; its `buffer.readline` gives the first line for ever; the text
of `sys.stdout` alone is the output; all tests share one process and one object of `Solution`; 6 s by alarm for each.
"""

import ast
import builtins
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

SECONDS = 6


class TimeoutException(Exception):  # noqa: N818 - upstream tells a time-out by this name in the repr
    """The alarm went off."""


def run(source: str, prelude: str, inputs: Sequence[str], function: str | None) -> list[tuple[str, Any]]:
    """Return what each test gave, up to the first that did not finish: (`output`, the text or value), `time` or `error`.

    `function` is called with the JSON of the input's lines; without one the program reads its input. A program that
    cannot be prepared has one `error`.
    """
    signal.signal(signal.SIGALRM, _ring)
    _disarm()
    try:
        tested = _function(source, prelude, function) if function else _whole(source, prelude)
    except Exception as error:  # noqa: BLE001 - upstream takes any for a failure of the first test
        return [("error", repr(error))]
    given: list[tuple[str, Any]] = []
    for text in inputs:
        given.append(_one(tested, text, function))
        if given[-1][0] != "output":
            break
    return given


def _ring(_number: int, _frame: object) -> None:
    raise TimeoutException


def _disarm() -> None:
    """Take away what upstream takes away, as far as a contest's program would use it."""
    builtins.quit = None  # type: ignore[assignment]
    for name in ("kill", "system", "remove", "rename", "unlink", "fork", "getcwd", "chdir"):
        setattr(os, name, None)


def _prepared(code: str) -> ModuleType:
    module = ModuleType("tmp_sol")
    signal.alarm(SECONDS)
    try:
        exec(code, module.__dict__)  # noqa: S102 - this runs inside the sandbox
    finally:
        signal.alarm(0)
    return module


def _function(source: str, prelude: str, function: str) -> Callable[..., Any]:
    module = _prepared(f"{prelude}\n\n{source}")
    owner = module.Solution() if "class Solution" in source else module
    tested: Callable[..., Any] = getattr(owner, function)
    return tested


def _whole(source: str, prelude: str) -> Callable[[], Any]:
    """Make a function of a program: its imports stand before, and the body of `if __name__ == "__main__":` at its end."""
    try:
        tree = ast.parse(source)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.If) and ast.unparse(last.test).strip() == "__name__ == '__main__'":
            tree = ast.parse(ast.unparse(ast.Module([*tree.body[:-1], *last.body], [])))
        imports: list[ast.stmt] = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
        others = [each for each in tree.body if not isinstance(each, ast.Import | ast.ImportFrom)]
        wrapped = ast.parse("def wrapped_function():\n    pass").body[0]
        assert isinstance(wrapped, ast.FunctionDef)  # noqa: S101
        wrapped.body = others
        code = f"{prelude}\n{ast.unparse(ast.Module(imports, []))}\n{ast.unparse(wrapped)}"
    except Exception:  # noqa: BLE001 - upstream goes on with the program as it is, which then has no such function
        code = source
    tested: Callable[[], Any] = _prepared(code).wrapped_function
    return tested


def _one(tested: Callable[..., Any], text: str, function: str | None) -> tuple[str, Any]:
    signal.alarm(SECONDS)
    try:
        if function:
            value = tested(*[json.loads(line) for line in text.split("\n")])
            return "output", list(value) if isinstance(value, tuple) else value
        return "output", _printed(tested, text)
    except Exception as error:  # noqa: BLE001 - any is a failure of this test
        return "time" if "timeoutexception" in repr(error).lower() else "error", repr(error)
    finally:
        signal.alarm(0)


def _printed(tested: Callable[[], Any], text: str) -> str:
    kept = sys.stdin, sys.stdout, builtins.open
    sys.stdin, sys.stdout = _Stdin(text), _Stdout()
    builtins.open = lambda *_, **__: io.StringIO(text)  # type: ignore[assignment]
    try:
        tested()
    except SystemExit:
        pass
    finally:
        printed, (sys.stdin, sys.stdout, builtins.open) = sys.stdout, kept
    return printed.getvalue()


class _Stdout(io.StringIO):
    """What stands for the output, also once it was closed."""

    def close(self) -> None:
        pass


class _Stdin:
    """What stands for the input."""

    def __init__(self, text: str) -> None:
        self._text, lines = io.StringIO(text), iter(text.split("\n"))
        self.buffer = _Buffer(text.encode())
        self.read = lambda *_: text
        self.readlines = lambda *_: text.split("\n")
        self.readline = lambda *_: next(lines)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)


class _Buffer:
    """What stands for the bytes of the input."""

    def __init__(self, data: bytes) -> None:
        self.read = lambda *_: data
        self.readline = lambda *_: data.split(b"\n")[0] + b"\n"
