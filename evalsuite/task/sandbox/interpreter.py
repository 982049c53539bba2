"""The Python that runs inside: where it lies, what belongs to it, and whether another uid can reach it."""

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from evalsuite.errors import MachineError
from evalsuite.task.sandbox.process import driver_source

_ABOUT = """
import json, os, platform, site, sys
print(json.dumps([os.path.realpath(sys.executable), sys.base_prefix, platform.python_version(),
                  [path for path in site.getsitepackages([sys.base_prefix]) if os.path.isdir(path)]]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python without its virtual environment; `site` are the folders where others have installed packages."""

    path: str
    prefix: str
    version: str
    site: tuple[str, ...]
    sha256: str

    @property
    def command(self) -> tuple[str, ...]:
        """Run the driver. Not `-I`: it would ignore PYTHONHASHSEED, and sets would print in another order each time."""
        return (self.path, "-s", "-S", "-P", "-X", "utf8", "-c", driver_source())


@cache
def look_at(program: str) -> Interpreter:
    """Ask a Python for its places. Raises MachineError where it does not run."""
    try:
        ran = subprocess.run([program, "-I", "-S", "-c", _ABOUT], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"the interpreter for the sandbox, {program}, does not run: {error}") from error
    path, prefix, version, site = json.loads(ran.stdout)
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Interpreter(path, prefix, version, tuple(site), digest)


@cache
def package_places(name: str) -> tuple[Path, ...]:
    """Return the files and folders of an installed distribution. Raises MachineError where it is not installed."""
    try:
        found = distribution(name)
    except PackageNotFoundError as error:
        raise MachineError(f"the sandbox has no package {name!r}: run `pip install {name}`.") from error
    tops = sorted({file.parts[0] for file in found.files or () if file.parts[0] != ".."})
    return tuple(Path(str(found.locate_file(top))).resolve() for top in tops)


def reachable(path: str | Path) -> bool:
    """Tell whether any uid may read a file or folder and come to it."""
    real = Path(path).resolve()
    return all(parent.stat().st_mode & 0o001 for parent in real.parents) and bool(real.stat().st_mode & 0o004)


def environment(home: str) -> dict[str, str]:
    """Return the whole environment of a sandbox: one thread for numpy, one order for sets, nothing of ours."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def drops_uid(*places: str | Path) -> bool:
    """Tell whether we are uid 0 and nobody could come to all these places, so that nobody is what a sandbox starts as."""
    return os.getuid() == 0 and all(map(reachable, places))
