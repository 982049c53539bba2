"""A server process: it dies with us, is waited for with a deadline that knows the file size, and stops within 10 s."""

import asyncio
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evalsuite.errors import ServerError

KEPT_LOG_BYTES = 256 * 1024
"""How much of a server's log is kept once it has stopped or floods the disk."""
FLOOD_BYTES = 16 * 1024 * 1024

_PASSED_ON = {
    "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES", "TMPDIR",
}  # fmt: skip
_LISTENING = re.compile(r"listening on (unix://\S+|http://\S+)")
_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|unable to allocate|bad_alloc|cudaMalloc failed", re.IGNORECASE
)


@dataclass(frozen=True)
class Address:
    """Where a server listens: a unix socket, or host and port on loopback, and the key it asks for."""

    url: str
    socket: Path | None
    key: str


class ServerProcess:
    """One server process from spawn to stop; its log and its socket lie in a private folder that goes with it."""

    def __init__(self, program: Sequence[str], log: Path, *, memory_bytes: int = 0) -> None:
        """`program` is what to run before the flags; `log` receives standard output and standard error.

        `memory_bytes` limits the address space of the process; 0 does not.
        """
        self.program = tuple(program)
        self.log = log
        self.memory_bytes = memory_bytes
        self.alias = f"evalsuite-{secrets.token_hex(4)}"
        self.key = secrets.token_urlsafe(24)
        self.folder = _private_folder()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def host(self) -> str:
        """The value of `--host`: a socket that nobody else can reach."""
        return str(self.folder / "s.sock")

    @property
    def pid(self) -> int | None:
        """The process id while one runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def spawn(self, arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
        """Start the process with a clean environment, the key in it.

        Must be called from the main thread: on Linux a child's life is bound to the thread that spawned it.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("servers are spawned from the main thread only")
        environment = {name: value for name, value in environ.items() if name in _PASSED_ON}
        environment |= {"HOME": str(self.folder), "LLAMA_API_KEY": self.key, "LANG": "C.UTF-8"}
        guard = Path(__file__).with_name("guard.py")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(guard), str(os.getpid()), str(self.memory_bytes), *self.program, *arguments],
                stdin=subprocess.DEVNULL if sys.platform == "linux" else subprocess.PIPE,
                stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    async def ready(self, model_bytes: int) -> Address:
        """Wait for the line that says where the server listens; it comes once the model is loaded.

        The deadline is max(120 s, size / 50 MB/s) and moves on while the log grows or the process reads. Raises
        ServerError with the last error lines: `load_failed`, `oom_load` or `not_ready`.
        """
        deadline = time.monotonic() + max(120.0, model_bytes / 50e6)
        progress: tuple[int, int] = (0, 0)
        while time.monotonic() < deadline:
            text = tail(self.log, since=self._log_start)
            if found := _LISTENING.search(text):
                return self._address(found[1])
            if self._process is None or self._process.poll() is not None:
                raise self._failure(text)
            now = (self.log.stat().st_size, _bytes_read(self._process.pid))
            if now != progress:
                progress, deadline = now, max(deadline, time.monotonic() + 60.0)
            await asyncio.sleep(0.03)
        await self.stop()
        raise ServerError(f"the server did not become ready.{error_lines(self.log)}", kind="not_ready")

    async def stop(self) -> None:
        """End the process group within 10 s: SIGTERM, 5 s, SIGKILL; close connections first, or SIGTERM is not heard."""
        process = self._process
        if process is not None and process.poll() is None:
            _signal_group(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + 5.0
            while process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        keep_tail(self.log, KEPT_LOG_BYTES)

    def kill(self) -> None:
        """End the process group at once, whatever it is doing."""
        if self._process is not None and self._process.returncode is None:
            _signal_group(self._process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=3)

    def _address(self, listening: str) -> Address:
        if listening.startswith("unix://"):
            return Address("http://localhost", Path(listening.removeprefix("unix://")), self.key)
        return Address(listening.rstrip("/"), None, self.key)

    def _failure(self, text: str) -> ServerError:
        code = self._process.returncode if self._process else None
        if _OUT_OF_MEMORY.search(text):
            advice = " Not enough memory: use a smaller `ctx` or `parallel`, or fewer `n-gpu-layers`."
            return ServerError(
                f"the server ran out of memory while loading.{advice}{error_lines(self.log)}", kind="oom_load"
            )
        return ServerError(
            f"the server exited with code {code} before it was ready.{error_lines(self.log)}", kind="load_failed"
        )


def tail(log: Path, size: int = KEPT_LOG_BYTES, *, since: int = 0) -> str:
    """Return the end of a log as text, nothing before byte `since`; an absent log is empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - size))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def error_lines(log: Path, count: int = 5) -> str:
    """Return the last error lines of a log (the last lines where none is marked), and where the log lies."""
    lines = [line for line in tail(log).splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"(^|\s)E\s|error|failed|cannot", line, re.IGNORECASE)] or lines
    shown = "".join(f"\n    {line.strip()[:300]}" for line in errors[-count:])
    return f"{shown}\n    (log: {log})"


def keep_tail(log: Path, size: int) -> None:
    """Cut a log to its last bytes; the server appends, so it may still be writing."""
    if log.exists() and log.stat().st_size > size:
        kept = tail(log, size).encode()
        os.truncate(log, 0)
        with log.open("ab") as file:
            file.write(kept)


def _private_folder() -> Path:
    """Make a folder with mode 0700 for a socket, whose path may have 104 bytes: in /tmp where TMPDIR is too long."""
    place = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="evalsuite-", dir=place if len(os.fsencode(place)) < 75 else "/tmp"))  # noqa: S108 - what lies there is ours alone


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _bytes_read(pid: int) -> int:
    """Return what a process has read from disk, page faults included; 0 where the kernel does not tell."""
    try:
        text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^read_bytes: (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0
