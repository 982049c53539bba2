"""The wheel: it holds the data folders, exposes one import name, and works installed elsewhere."""

import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_only_one_import_name(wheel: Path):
    """The wheel installs `evalsuite` and nothing called tasks, servers, reports or tests."""
    names = {name.split("/")[0] for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {"evalsuite"}


@pytest.mark.parametrize("folder", ["tasks", "servers", "reports/templates"])
def test_shipped_data_is_complete(wheel: Path, folder: str):
    """Every file of a data folder is in the wheel."""
    on_disk = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert on_disk
    assert {f"evalsuite/_shipped/{name}" for name in on_disk} <= set(ZipFile(wheel).namelist())


def test_installed_elsewhere_it_works(wheel: Path, tmp_path: Path):
    """Installed in another folder, away from the checkout, a command finds its data and the checkout is not used."""
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    # -S and -I leave the editable checkout out; the libraries come from this environment by path.
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    code = (
        f"import sys; sys.path[:0] = {[str(site), *libraries]!r}\n"
        "import evalsuite; from evalsuite.cli import main\n"
        "sys.argv = ['evalsuite', 'tasks', '--json']; status = main()\n"
        "print(evalsuite.__file__, file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip().endswith(str(site / "evalsuite" / "__init__.py"))
    listed = json.loads(done.stdout)
    assert set(listed["suites"]["demo"]) <= set(listed["tasks"])


def test_data_folders_are_not_importable():
    """No data folder of the checkout can be imported by name."""
    for name in ("tasks", "servers", "reports"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", f"import {name}"], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 1
