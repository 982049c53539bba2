"""What comes out of wheels: fetched by pip, checked by its hash."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from evalsuite.errors import MachineError
from evalsuite.wheels import fetch_wheel


def toy_wheel(folder: Path) -> Path:
    path = folder / "toy-1.0-py3-none-any.whl"
    about = "toy-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("toy/data.txt", "trout")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


def test_a_wheel_is_fetched_and_its_hash_checked(tmp_path: Path) -> None:
    """A pinned wheel lands in a folder that may be there already, as after a run that was killed; another one is refused."""
    wheel = toy_wheel(tmp_path)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (tmp_path / "kept").mkdir()
    fetched = fetch_wheel(f"toy @ {wheel.as_uri()} --hash=sha256:{sha256}", tmp_path / "kept")
    assert fetched.parent == tmp_path / "kept"
    assert fetched.read_bytes() == wheel.read_bytes()
    with pytest.raises(MachineError, match=r"toy @ file:.* could not be fetched with pip"):
        fetch_wheel(f"toy @ {wheel.as_uri()} --hash=sha256:{'0' * 64}", tmp_path / "other")
