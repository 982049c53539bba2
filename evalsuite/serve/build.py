"""Build llama.cpp from source into the user's cache, from the copy inside a source package on the package index."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from evalsuite.errors import MachineError, SpecError
from evalsuite.filehash import file_sha256
from evalsuite.serve.llama_cpp import SOURCE_VERSION, TOOLS, LlamaCpp, built_folder, find_llama_cpp

Progress = Callable[[str, float], None]
"""Called with the stage (`download`, `unpack`, `configure`, `build`) and the share of it that is done, in [0, 1]."""

SOURCE_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"

_TARGETS = ("llama-server", *(f"llama-{tool}" for tool in TOOLS))
_CMAKE_ARGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",  # the finished programs are moved, and their libraries with them
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_NUMBER=0",  # or it asks git, and the answer is about whatever repository lies around the cache
    f"-DLLAMA_BUILD_COMMIT=llama-cpp-python-{SOURCE_VERSION}",
)


def build_llama_cpp(*, cmake_args: Sequence[str] = (), jobs: int | None = None, progress: Progress) -> LlamaCpp:
    """Fetch the pinned source of llama.cpp, build its server and tools, and return them.

    `cmake_args` follow our own (`-DGGML_CUDA=ON`), `jobs` compilers run at once (default: one per core). Nothing is
    visible under `built_folder()` until all of it is there. Raises MachineError when cmake, make or a compiler is
    missing (before anything is fetched), and when the fetching or the building fails; the log stays at `build_log()`.
    """
    _require_compilers()
    with _staging() as staging:
        return build_archive(fetch_source(staging, progress), cmake_args=cmake_args, jobs=jobs, progress=progress)


def build_log() -> Path:
    """Return where the log of the last build is kept."""
    return built_folder().parent / f"{SOURCE_VERSION}.log"


def fetch_source(folder: Path, progress: Progress) -> Path:
    """Download the source package with pip, so with the user's own index settings, and check its sha256."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"llama-cpp-python=={SOURCE_VERSION} --hash=sha256:{SOURCE_SHA256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python"),
        *("--requirement", str(requirements), "--dest", str(folder)),
        *("--progress-bar", "raw", "--no-input", "--disable-pip-version-check"),
    ]
    log = folder / "pip.log"

    def on_line(line: str) -> None:
        if match := re.match(r"Progress (\d+) of (\d+)", line):
            progress("download", int(match[1]) / max(1, int(match[2])))

    progress("download", 0.0)
    with log.open("wb") as out:
        code = _run(command, out, on_line)
    archives = sorted(folder.glob("llama_cpp_python-*.tar.gz"))
    if code or not archives:
        raise MachineError(
            f"The source of llama.cpp could not be fetched: pip ended with code {code}.{_last_errors(log)}\n"
            f"pip must reach a package index that has the source package of llama-cpp-python {SOURCE_VERSION}."
        )
    return archives[0]


def build_archive(archive: Path, *, cmake_args: Sequence[str] = (), jobs: int | None, progress: Progress) -> LlamaCpp:
    """Build from a source package that is already here, as `build_llama_cpp` does."""
    _require_compilers()
    with _staging() as staging, build_log().open("wb") as log:
        source = _unpack(archive, staging, progress)
        build, finished = staging / "build", staging / "finished"
        arguments = [*_CMAKE_ARGS, *cmake_args]
        _cmake(["-S", str(source), "-B", str(build), *arguments], log, "configure", progress)
        parallel = str(jobs or os.cpu_count() or 1)
        _cmake(["--build", str(build), "--parallel", parallel, "--target", *_TARGETS], log, "build", progress)
        finished.mkdir()
        (build / "bin").rename(finished / "bin")
        _write_manifest(finished / "manifest.json", archive, arguments)
        try:
            find_llama_cpp(finished)
        except SpecError as error:
            raise MachineError(f"llama.cpp was built, but does not run: {error}") from None
        _publish(finished, staging / "replaced")
    return replace(find_llama_cpp(built_folder()), origin="evalsuite llama-cpp build")


def _require_compilers() -> None:
    compilers = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    needs = {"cmake": ["cmake"], "make": ["make"], "a C++ compiler": [name for name in compilers if name]}
    missing = [what for what, names in needs.items() if not any(map(shutil.which, names))]
    if missing:
        fix = "brew install cmake; xcode-select --install" if sys.platform == "darwin" else "apt install cmake make g++"
        raise MachineError(f"Building llama.cpp needs {' and '.join(missing)}. On this system: `{fix}`.")


@contextmanager
def _staging() -> Iterator[Path]:
    folder = built_folder().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix="building-") as staging:
            yield Path(staging)
    except OSError as error:
        raise MachineError(f"llama.cpp could not be built in {folder}: {error}.") from None


def _unpack(archive: Path, folder: Path, progress: Progress) -> Path:
    """Unpack the part of the source package that is llama.cpp and return its folder."""
    progress("unpack", 0.0)
    with tarfile.open(archive) as package:
        inside = re.compile(r"[^/]+/vendor/llama\.cpp/.")
        package.extractall(folder, [item for item in package if inside.match(item.name)], filter="data")
    sources = list(folder.glob("*/vendor/llama.cpp"))
    if not sources:
        raise MachineError(f"{archive} holds no vendor/llama.cpp; it should be llama-cpp-python {SOURCE_VERSION}.")
    progress("unpack", 1.0)
    return sources[0]


def _cmake(arguments: Sequence[str], log: BinaryIO, stage: str, progress: Progress) -> None:
    done = 0.0

    def on_line(line: str) -> None:
        nonlocal done
        if match := re.match(r"\[\s*(\d+)%\]", line):
            done = max(done, min(int(match[1]), 99) / 100)  # make begins at 0 % again with every target
            progress(stage, done)

    progress(stage, done)
    code = _run(["cmake", *arguments], log, on_line)
    if code:
        raise MachineError(
            f"llama.cpp could not be built: cmake ended with code {code} ({stage}).{_last_errors(build_log())}\n"
            f"The whole log is {build_log()}."
        )
    progress(stage, 1.0)


def _run(command: Sequence[str], log: BinaryIO, on_line: Callable[[str], None]) -> int:
    """Run a command to its end with its output in the log, and return its exit code."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            for line in process.stdout or ():
                log.write(line)
                on_line(line.decode(errors="replace"))
        except BaseException:
            process.terminate()
            raise
    log.flush()
    return process.returncode


def _last_errors(log: Path) -> str:
    """Return the last lines of a log that speak of an error, else its last lines, ready to follow a sentence."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if re.search(r"error|fatal", line, re.IGNORECASE)]
    return "".join(f"\n  {line.strip()[:300]}" for line in (errors or lines)[-5:])


def _write_manifest(path: Path, archive: Path, arguments: Sequence[str]) -> None:
    """Record what was built, with what, and how."""
    log = build_log().read_text(encoding="utf-8", errors="replace")
    compiler = re.search(r"The CXX compiler identification is (.+)", log)
    manifest = {
        "source": f"llama-cpp-python {SOURCE_VERSION}",
        "source_sha256": file_sha256(archive),
        "cmake_args": list(arguments),
        "compiler": compiler[1].strip() if compiler else None,
    }
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _publish(finished: Path, replaced: Path) -> None:
    """Put a finished build in its place with one rename; an older one steps aside and goes with the staging folder."""
    if built_folder().exists():
        built_folder().rename(replaced)
    finished.rename(built_folder())
