"""Where llama.cpp is, which tools come with it, and what identifies its numerics."""

import errno
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path

from evalsuite.errors import MachineError, SpecError
from evalsuite.filehash import file_sha256

SOURCE_VERSION = "0.3.36"
"""The release of llama-cpp-python whose copy of the llama.cpp source `evalsuite llama-cpp build` builds."""

TOOLS = ("perplexity", "quantize", "imatrix", "bench")

_LIBRARY = re.compile(r"lib(ggml|llama|mtmd)[\w.-]*\.(so|dylib)[.\d]*")
_NUMERIC_FLAG = re.compile(r"s?sse|avx|fma|f16c|amx|asimd|fp|sve|sme|i8mm|bf16|neon")


@dataclass(frozen=True)
class LlamaCpp:
    """One llama.cpp: a build on disk, or the one embedded in the `xllamacpp` wheel.

    `origin` says which place it was found in, `server` is how a command line that starts the server begins, `tools`
    maps those of `perplexity`, `quantize`, `imatrix` and `bench` that are present to their programs.
    """

    kind: Literal["build", "embedded"]
    origin: str
    server: tuple[str, ...]
    version: str
    tools: Mapping[str, Path] = field(default_factory=dict)


def find_llama_cpp(folder: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> LlamaCpp:
    """Return the llama.cpp to use: `folder`, `$EVALSUITE_LLAMA_CPP`, PATH, our own build, else the embedded one.

    A folder is the root of a build, its `bin/` or its `build/bin/`; the word `embedded` in its place asks for the
    embedded server. The first place that holds a llama-server decides: when that one cannot run it is a SpecError,
    since a sweep must not be served by another engine unnoticed. Nothing anywhere is a MachineError.
    """
    if folder is not None:
        return _named(folder, "--llama-cpp", environ)
    if named := environ.get("EVALSUITE_LLAMA_CPP"):
        return _named(Path(named), "$EVALSUITE_LLAMA_CPP", environ)
    if found := shutil.which("llama-server", path=environ.get("PATH", os.defpath)):
        return _build(Path(found).absolute(), "PATH", environ)
    if (built := built_folder()).exists():
        return _named(built, "evalsuite llama-cpp build", environ)
    return _embedded("the xllamacpp package")


def built_folder() -> Path:
    """Return the folder in the user's cache where `evalsuite llama-cpp build` puts what it built."""
    return user_cache_path("evalsuite") / "llama.cpp" / SOURCE_VERSION


def build_id(llama_cpp: LlamaCpp, *, environ: Mapping[str, str] = os.environ) -> str:
    """Return `build-v1-<16 hex digits>`, equal where the same code runs on the same kind of processor.

    It covers the bytes of the server and of every libggml, libllama and libmtmd that it can load, the processor's
    vector extensions, the NVIDIA driver and cards, and CUDA_VISIBLE_DEVICES.
    """
    files = _embedded_files() if llama_cpp.kind == "embedded" else _server_files(Path(llama_cpp.server[0]))
    parts = sorted(f"{file.name} {file_sha256(file)}" for file in files)
    parts += [*_cpu_flags(), *_nvidia(), f"CUDA_VISIBLE_DEVICES={environ.get('CUDA_VISIBLE_DEVICES')}"]
    return "build-v1-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _named(folder: Path, origin: str, environ: Mapping[str, str]) -> LlamaCpp:
    if str(folder) == "embedded":
        return _embedded(f"{origin} embedded")
    root = folder.expanduser().absolute()
    candidates = [place / "llama-server" for place in (root, root / "bin", root / "build" / "bin")]
    for candidate in candidates:
        if candidate.exists():
            return _build(candidate, origin, environ)
    if not root.exists():
        raise SpecError(f"{origin}: {root} does not exist. Name the folder of a llama.cpp build.")
    raise SpecError(
        f"{origin}: no llama-server in {root}: looked for {', '.join(map(str, candidates))}. "
        "Name the folder of a llama.cpp build, or `embedded` for the embedded server."
    )


def _build(server: Path, origin: str, environ: Mapping[str, str]) -> LlamaCpp:
    beside = os.pathsep.join(map(str, (server.parent, server.resolve().parent)))
    programs = {tool: shutil.which(f"llama-{tool}", path=beside) for tool in TOOLS}
    return LlamaCpp(
        kind="build",
        origin=origin,
        server=(str(server),),
        version=_server_version(server, origin, environ),
        tools={tool: Path(program) for tool, program in programs.items() if program},
    )


def _server_version(server: Path, origin: str, environ: Mapping[str, str]) -> str:
    """Return what `llama-server --version` says; one that cannot say it cannot serve either."""
    # LLAMA_ARG_* are read before the arguments, and a bad one ends the program.
    clean = {name: value for name, value in environ.items() if not name.startswith("LLAMA_")}
    try:
        ran = subprocess.run(
            [server, "--version"], env=clean, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except OSError as error:
        raise SpecError(f"{origin}: {server} {_why_not_started(error)}") from None
    except subprocess.TimeoutExpired:
        raise SpecError(f"{origin}: {server} --version did not end within 60 s. Is this llama-server?") from None
    said = ran.stdout + ran.stderr
    if match := re.search(r"^version: (.+)$", said, re.MULTILINE):
        return match[1]
    raise SpecError(f"{origin}: {server} {_why_no_version(ran.returncode, said, server)}")


def _why_not_started(error: OSError) -> str:
    match error.errno:
        case errno.EACCES:
            return "is not executable. Run `chmod +x` on it, or look whether its disk is mounted noexec."
        case errno.ENOEXEC:
            return f"is not a program for this machine ({platform.machine()}): another architecture, or not a program."
        case errno.ENOENT:  # the file is there, what it names as its loader is not
            return "needs a loader that is not on this system (see `file` and `ldd`). Build llama.cpp on this machine."
        case _:
            return f"cannot be started: {error.strerror}."


def _why_no_version(returncode: int, said: str, server: Path) -> str:
    missing = re.search(r"(\S+): cannot open shared object file", said) or re.search(r"Library not loaded: (\S+)", said)
    lister = "otool -L" if sys.platform == "darwin" else "ldd"
    if missing:
        return (
            f"lacks the shared library {missing[1]}; `{lister} {server}` lists what it needs. "
            "Install the library, or keep it beside the program as the build made it."
        )
    if returncode < 0:
        return f"was killed by signal {-returncode}: it may be built for another processor. Build it on this machine."
    tail = " ".join(said.split())[-300:]
    return f"--version ended with code {returncode} and no version. Is this llama-server? It said: {tail or 'nothing'}"


def _embedded(origin: str) -> LlamaCpp:
    if find_spec("xllamacpp") is None:
        raise MachineError(
            "There is no llama.cpp: no llama-server on PATH, no build of ours, and no xllamacpp package. "
            "Run `pip install xllamacpp` or `evalsuite llama-cpp build`, or name a build with --llama-cpp."
        )
    return LlamaCpp(
        kind="embedded",
        origin=origin,
        server=(sys.executable, "-m", "evalsuite.serve.embedded"),
        version=f"xllamacpp {package_version('xllamacpp')}",
    )


def _embedded_files() -> list[Path]:
    spec = find_spec("xllamacpp")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    return [file for folder in folders for file in folder.glob("*.so")]


def _server_files(server: Path) -> set[Path]:
    """Return the server, and the libraries that it links or, as backends, loads from its folder when it starts."""
    real = server.resolve()
    found = [*real.parent.iterdir(), *_linked(server)]
    return {real} | {path.resolve() for path in found if _LIBRARY.fullmatch(path.name)}


def _linked(server: Path) -> Iterable[Path]:
    if shutil.which("ldd"):
        ran = subprocess.run(["ldd", server], capture_output=True, text=True, errors="replace", check=False)
        return [Path(path) for path in re.findall(r"=> (/.+?) \(0x", ran.stdout)]
    library_folder = server.resolve().parent.parent / "lib"
    return library_folder.iterdir() if library_folder.is_dir() else []


def _cpu_flags() -> list[str]:
    """Return the processor's vector extensions, which choose the kernels and with them the rounding."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return [platform.machine(), platform.processor()]
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
    return sorted(flag for flag in (flags[1].split() if flags else ()) if _NUMERIC_FLAG.match(flag))


def _nvidia() -> list[str]:
    """Return the driver and the models of the cards: two models of card round differently."""
    driver = Path("/proc/driver/nvidia")
    lines = [
        line
        for file in (driver / "version", *sorted(driver.glob("gpus/*/information")))
        if file.exists()
        for line in file.read_text(errors="replace").splitlines()
    ]
    return [line for line in lines if line.startswith(("NVRM version", "Model"))]
