"""Ten small attacks on a sandbox before it is used: whatever one of them reaches, no program may run there."""

import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evalsuite.errors import MachineError
from evalsuite.task.sandbox.execute import execute
from evalsuite.task.sandbox.records import Limits, Program, Sandbox, Status, StdinTest, TestResult

_MEMORY_BYTES = 256 << 20
_PLANTED = "EVALSUITE_CANARY"
_TEXT = "Größe 数 🐦"

_ATTACKS = {
    "write outside": "open(<folder> + '/canary', 'w').write('x')",
    "read another's environment": """
import glob
for path in glob.glob('/proc/[0-9]*/environ'):
    try:
        sys.stdout.buffer.write(open(path, 'rb').read())
    except OSError:
        pass""",
    "connect": "import socket; socket.create_connection(('127.0.0.1', <port>), 0.1); print('connected')",
    "fork": "os.fork() or os._exit(0); print('forked')",
    "memory": "bytearray(<memory>); print('had')",
    "signal": "os.kill(<pid>, <signal>)",
    "daemon": """
import subprocess
subprocess.Popen(['/bin/sleep', '1']); print('started')""",
    "flood": "while True: os.write(1, b'x' * 65536)",
    "time": "while True: pass",
    "text": "print(input())",
}
_PROGRAM = "import os, sys\nATTACKS = {attacks!r}\nexec(ATTACKS[input()])"


@dataclass(frozen=True)
class _World:
    """What can be reached if the sandbox leaks, and what shows that it was."""

    folder: Path
    listener: socket.socket
    bystander: subprocess.Popen[bytes]
    secret: str


@contextmanager
def _world() -> Iterator[_World]:
    secret = secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listener:
        folder = Path(name)
        folder.chmod(0o777)  # whoever the program runs as might write here
        listener.setblocking(False)
        # A signal that it blocks stays pending, where it can be seen, and harms nobody if another process gets it.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
        try:
            bystander = subprocess.Popen(["sleep", "60"], env={_PLANTED: secret, "PATH": "/usr/bin:/bin"})
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        try:
            yield _World(folder, listener, bystander, secret)
        finally:
            bystander.kill()
            bystander.wait()


def hits(sandbox: Sandbox) -> tuple[str, ...]:
    """Return the names of the attacks that reach anything. Raises MachineError where the sandbox does not start."""
    with _world() as world:
        facts = {
            "folder": str(world.folder), "port": world.listener.getsockname()[1], "pid": world.bystander.pid,
            "signal": int(signal.SIGWINCH), "memory": 2 * _MEMORY_BYTES,
        }  # fmt: skip
        attacks = {name: _filled(text, facts) for name, text in _ATTACKS.items()}
        program = Program(_PROGRAM.format(attacks=attacks))
        endless = _run(sandbox, program, ["time"], 0.15)
        others = _run(sandbox, program, [name for name in _ATTACKS if name != "time"], 5.0)
        return tuple(name for name, result in (others | endless).items() if _hit(name, result, world))


def _filled(text: str, facts: Mapping[str, object]) -> str:
    for name, value in facts.items():
        text = text.replace(f"<{name}>", repr(value))
    return text


def _run(sandbox: Sandbox, program: Program, names: list[str], wall_s: float) -> dict[str, TestResult]:
    tests = [StdinTest(f"{name}\n{_TEXT}\n".encode()) for name in names]
    limits = Limits(wall_s, _MEMORY_BYTES, 1 << 16)
    return dict(zip(names, execute(sandbox, program, tests, limits, stop=lambda *_: False).results, strict=True))


def _hit(name: str, result: TestResult, world: _World) -> bool:
    """Tell whether an attack came through, by its effect where there is one; one that never ran proves nothing."""
    if result.status is Status.NOT_REACHED:
        return True
    match name:
        case "write outside":
            return any(world.folder.iterdir())
        case "read another's environment":
            return world.secret.encode() in result.output
        case "connect":
            return _accepts(world.listener) or bool(result.output)
        case "signal":
            return _has_pending(world.bystander.pid, signal.SIGWINCH)
        case "fork" | "memory" | "daemon":
            return bool(result.output)
        case "flood":
            return result.status is not Status.OUTPUT_LIMIT
        case "time":
            return result.status is not Status.TIME_LIMIT
        case _:
            return result.output.decode("utf-8", "replace") != f"{_TEXT}\n"


def _accepts(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _has_pending(pid: int, number: int) -> bool:
    """Tell whether a signal waits for a process, by the mask that Linux shows of it."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        raise MachineError("without /proc it cannot be seen whether a signal reaches other processes")
    pending = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (number - 1) & 1)
