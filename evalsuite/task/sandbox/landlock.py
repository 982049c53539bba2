"""Landlock, for a kernel that has it where namespaces are refused: no file system to write in, no network, no signals."""

import ctypes
import platform
import sys
import tempfile
from pathlib import Path

from evalsuite.errors import MachineError
from evalsuite.task.sandbox.driver import FILE_BYTES, OPEN_FILES, PROCESSES
from evalsuite.task.sandbox.interpreter import Interpreter, drops_uid, environment, package_places
from evalsuite.task.sandbox.records import Description, Launch, Sandbox

NEEDED_ABI = 6
"""From Linux 6.12: below that a program could send signals to every process of the user."""
_CREATE_RULESET, _VERSION_FLAG = 444, 1
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin")


def landlock(interpreter: Interpreter) -> Sandbox:
    """Describe a sandbox by Landlock. Raises MachineError where the kernel has none, or an old one."""
    abi = _abi()
    if abi < NEEDED_ABI:
        raise MachineError(f"Landlock {'is absent' if abi <= 0 else f'has ABI {abi}'}, and {NEEDED_ABI} is needed.")

    def launch(packages: tuple[str, ...]) -> Launch:
        places = [place for name in packages for place in package_places(name)]
        readable = [*filter(_exists, _SYSTEM), interpreter.prefix, *map(str, places)]
        return Launch(
            command=interpreter.command,
            environ=environment("/"),
            place={"path": sorted({str(place.parent) for place in places}), "clean": [], "readable": readable},
            drop_uid=drops_uid(interpreter.path, interpreter.prefix, *places),
        )

    return Sandbox(
        Description(
            kind="landlock",
            version=f"ABI {abi}, Linux {platform.release()}",
            interpreter=interpreter.version,
            interpreter_sha256=interpreter.sha256,
            fixed={"file_bytes": FILE_BYTES, "open_files": OPEN_FILES, "processes": PROCESSES},
            notes=("Programs find no folder to write in and no /proc; what they would have there fails.",),
        ),
        launch,
    )


def _abi() -> int:
    if sys.platform != "linux":
        return 0
    return int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG))


def _exists(path: str) -> bool:
    return Path(path).exists()


def unconfined(interpreter: Interpreter) -> Sandbox:
    """Describe no sandbox at all: the limits and the filter are there, the file system is open."""
    home = tempfile.gettempdir()
    return Sandbox(
        Description(
            kind="none",
            version="",
            interpreter=interpreter.version,
            interpreter_sha256=interpreter.sha256,
            fixed={"file_bytes": FILE_BYTES, "open_files": OPEN_FILES, "processes": PROCESSES},
            notes=("Programs could read and write whatever this user can.",),
        ),
        lambda packages: Launch(
            command=interpreter.command,
            environ=environment(home),
            place={
                "path": sorted({str(place.parent) for name in packages for place in package_places(name)}),
                "clean": [],
            },
        ),
    )
