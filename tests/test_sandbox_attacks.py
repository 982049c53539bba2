"""What a hostile program tries, row by row: the verdict it gets, and that the effect it wanted is missing."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalsuite.errors import MachineError
from evalsuite.task.sandbox.backends import open_sandbox
from evalsuite.task.sandbox.check import checked
from evalsuite.task.sandbox.execute import execute
from evalsuite.task.sandbox.records import (
    CallTest,
    Execution,
    Limits,
    Program,
    Sandbox,
    Status,
    StdinTest,
    TestResult,
    Verdict,
)

MIB = 1 << 20


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """Bubblewrap with this interpreter; skipped where it does not hold."""
    return _opened(None)


@pytest.fixture(scope="module", params=["as this uid", "as nobody"])
def either(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    """Bubblewrap as it comes, and with the system's interpreter, which another uid can reach."""
    system = Path("/usr/bin/python3")
    if request.param == "as this uid":
        return sandbox
    if os.getuid() or not system.exists() or not _is_new_enough(system):
        pytest.skip("needs uid 0, to drop it, and a Python 3.11 or later at /usr/bin/python3")
    return _opened(system)


def _opened(python: Path | None) -> Sandbox:
    try:
        return open_sandbox("bubblewrap", interpreter=python)
    except MachineError as error:
        pytest.skip(str(error))


def _is_new_enough(python: Path) -> bool:
    said = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, check=True
    )
    return said.stdout.strip() == b"True"


def attack(
    sandbox: Sandbox, source: str, stdin: bytes = b"", *, wall_s: float = 20, memory: int = 4096 * MIB
) -> TestResult:
    return execute(sandbox, Program(source), [StdinTest(stdin)], Limits(wall_s, memory)).results[0]


def several(sandbox: Sandbox, source: str, *stdins: bytes, wall_s: float = 20) -> Execution:
    return execute(
        sandbox, Program(source), [StdinTest(text) for text in stdins], Limits(wall_s), stop=lambda *_: False
    )


def test_01_fork_bomb(either: Sandbox):
    """A program that forks fails at once, and not one process comes to be."""
    assert attack(either, "import os\nwhile True: os.fork()").status is Status.RUNTIME_ERROR
    count = """
import os
before = len(os.listdir('/proc'))
for way in (os.fork, os.forkpty, lambda: os.posix_spawn('/bin/sleep', ['sleep', '9'], {}), lambda: os.system('true')):
    try:
        print(way() == -1 or 'odd')
    except OSError as error:
        print(error.errno)
print(len(os.listdir('/proc')) - before)
"""
    found = attack(either, count).output.split()
    assert (found[0], found[1], found[2], found[-1]) == (b"1", b"1", b"1", b"0")


def test_02_thread_bomb(either: Sandbox):
    """Threads without end are refused before they are many: by their number, and for uid 0 by their memory."""
    source = """
import threading, time
for index in range(10**6):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    print(index, flush=True)
"""
    result = attack(either, source, memory=512 * MIB)
    assert result.status is Status.RUNTIME_ERROR
    assert "can't start new thread" in result.detail
    assert len(result.output.split()) <= 64


def test_03_memory_of_one_process(sandbox: Sandbox):
    """Memory beyond the limit is refused, taken at once or bit by bit."""
    assert attack(sandbox, "bytearray(5 << 30)").status is Status.MEMORY_LIMIT
    slow = "parts = []\nwhile True: parts.append(bytearray(1 << 22)); print(flush=True)"
    result = attack(sandbox, slow, memory=256 * MIB)
    assert result.status is Status.MEMORY_LIMIT
    assert len(result.output) < 64


def test_04_memory_of_many_processes(sandbox: Sandbox):
    """Six processes of 400 MB under a limit of 512 MB do not start."""
    source = """
import subprocess, sys
for _ in range(6):
    subprocess.Popen([sys.executable, '-c', 'b = bytearray(400 << 20); print(len(b), flush=True); import time; time.sleep(9)'])
"""
    result = attack(sandbox, source, memory=512 * MIB)
    assert (result.status, result.output) == (Status.RUNTIME_ERROR, b"")


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("while True: pass", id="05 endless loop"),
        pytest.param(
            "import signal, time\nfor n in range(1, 32):\n try: signal.signal(n, signal.SIG_IGN)\n except OSError: pass\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\ntime.sleep(99)",
            id="06 sleep, all signals ignored",
        ),
        pytest.param("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", id="07 stops itself"),
        pytest.param("import os, time\nos.closerange(0, 64)\ntime.sleep(99)", id="07 closes everything and hangs"),
        pytest.param(
            "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", id="25 bottomless recursion"
        ),
    ],
)  # fmt: skip
def test_05_06_07_25_time(sandbox: Sandbox, source: str):
    """A program that does not end is ended."""
    assert attack(sandbox, source, wall_s=0.5).status is Status.TIME_LIMIT


@pytest.mark.parametrize("descriptor", [1, 2])
def test_08_flood(sandbox: Sandbox, descriptor: int):
    """Of 300 MB written, the first MiB is kept."""
    result = attack(sandbox, f"import os\nfor _ in range(300): os.write({descriptor}, b'x' * 10**6)")
    assert result.status is Status.OUTPUT_LIMIT
    assert len(result.output) == (MIB if descriptor == 1 else 0)


@pytest.mark.parametrize(
    "place", ["/usr/hit", "/dev/hit", "/hit", "{folder}/hit", "/packages/hit", "/proc/sys/kernel/hostname"]
)
def test_09_write_outside(either: Sandbox, place: str, tmp_path: Path):
    """Nothing can be written but the box and the shared memory."""
    tmp_path.chmod(0o777)
    result = attack(either, f"open({place.format(folder=tmp_path)!r}, 'w').write('x')")
    assert result.status is Status.RUNTIME_ERROR
    assert list(tmp_path.iterdir()) == []


def test_09_kernel_settings(either: Sandbox):
    """No setting of the kernel is writable, though inside may be uid 0 outside."""
    source = """
import os
for where, _, names in os.walk('/proc/sys'):
    for name in names:
        try:
            os.open(f'{where}/{name}', os.O_WRONLY); print(f'{where}/{name}')
        except OSError:
            pass
for name in ('sysrq-trigger', '1/oom_score_adj', f'{os.getppid()}/oom_score_adj', 'self/comm'):
    try:
        os.open(f'/proc/{name}', os.O_WRONLY); print(name)
    except OSError:
        pass
"""
    result = attack(either, source)
    assert (result.status, result.output) == (Status.FINISHED, b"")


def test_10_keys(either: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """No key of ours is in any environment that can be read, that of bubblewrap's first process included."""
    secret = secrets.token_hex(16)
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    source = """
import glob, os
print(dict(os.environ))
for path in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):
    try:
        print(path, open(path).read())
    except OSError:
        pass
"""
    result = attack(either, source)
    assert result.status is Status.FINISHED
    assert b"PYTHONHASHSEED" in result.output
    assert secret.encode() not in result.output


def test_11_12_files_of_ours(sandbox: Sandbox, tmp_path: Path):
    """Neither keys and passwords nor a file with expected answers can be found by walking everywhere."""
    name = secrets.token_hex(8)
    (tmp_path / name).write_text("42")
    tmp_path.chmod(0o777)
    source = f"""
import os
for path in ('/etc/shadow', '/etc/passwd', '/root/.ssh', '/root/.bashrc', '/home', {str(tmp_path)!r}, {__file__!r}):
    if os.path.exists(path):
        print(path)
for where, folders, names in os.walk('/'):
    folders[:] = [folder for folder in folders if where != '/' or folder != 'proc']
    if {name!r} in names or any(name.endswith('.jsonl') or name.endswith('.gguf') for name in names):
        print(where)
"""
    result = attack(sandbox, source)
    assert (result.status, result.output) == (Status.FINISHED, b"")


def test_13_expected_from_memory(either: Sandbox):
    """What is expected lies neither in the frames, nor in the memory of the program, nor in that of its parent."""
    expected = f"EXPECTED-{secrets.token_hex(16)}"
    source = """
import gc, os, re, sys
found = set()
def look(data):
    found.update(re.findall(rb'EXPECTED-[0-9a-f]{32}', data))
frame = sys._getframe()
while frame:
    look(repr(frame.f_locals).encode('utf-8', 'replace')); frame = frame.f_back
for thing in gc.get_objects():
    try: look(repr(thing).encode('utf-8', 'replace'))
    except Exception: pass
for pid in ('self', os.getppid(), 1):
    try:
        with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as memory:
            for line in maps:
                low, high = (int(word, 16) for word in line.split()[0].split('-'))
                try: memory.seek(low); look(memory.read(high - low))
                except (OSError, ValueError, OverflowError): pass
        print('read', pid)
    except OSError:
        pass
print(found)
"""
    right = []

    def stop(_: int, result: TestResult) -> bool:
        right.append(result.output == expected.encode())
        return False

    execution = execute(either, Program(source), [StdinTest(b"1"), StdinTest(b"2")], Limits(20), stop=stop)
    assert right == [False, False]
    assert [result.output for result in execution.results] == [b"read self\nset()\n"] * 2


EQUAL_TO_ALL = """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
class Text(str):
    def __eq__(self, other): return True
    __hash__ = None
def f(x): return Text('no') if x else Equal()
"""


def test_14_equal_to_everything(sandbox: Sandbox):
    """An object that says it equals everything equals nothing outside, and nothing in the checker."""
    tests = [CallTest("f", (0,)), CallTest("f", (1,))]
    results = execute(sandbox, Program(EQUAL_TO_ALL), tests, Limits(20)).results
    assert [result.status for result in results] == [Status.FINISHED] * 2
    assert [result.value == expected for result in results for expected in (1, "yes", None)] == [False] * 6
    verdicts = [
        checked(sandbox, Program(EQUAL_TO_ALL), "f", Program(f"assert f({x}) == 1"), Limits(20)).verdict for x in (0, 1)
    ]
    assert verdicts == [Verdict.WRONG_ANSWER] * 2


@pytest.mark.parametrize(
    "source",
    [
        # every list and dictionary that can be reached is told that it passed
        """
import gc
def f(x):
    for o in gc.get_objects():
        try:
            if type(o) is list: o.append('passed')
            elif type(o) is dict: o['passed'] = o['nonce'] = 'passed'
        except Exception: pass
    return 0
""",
        """
import os, json, struct
def f(x):
    d = json.dumps({'passed': True, 'value': 1}).encode()
    os.write(3, struct.pack('>II', len(d), 0) + d)
    return 0
""",
        "import os\ndef f(x):\n print('{\"passed\": true}', flush=True); os._exit(0)",
        "import sys\ndef f(x): sys.exit(0)",
        "import os\nos._exit(0)",
    ],
    ids=["15 lists", "16 forged value", "16 printed verdict", "16 sys.exit", "16 at import"],
)
def test_15_16_forged_verdicts(sandbox: Sandbox, source: str):
    """A solution cannot pass by saying so, nor by ending well: the checker ends elsewhere or not at all."""
    checker = Program("assert f(1) == 1\nassert f(2) == 2")
    assert checked(sandbox, Program(source), "f", checker, Limits(20)).verdict is not Verdict.PASSED
    result = execute(sandbox, Program(source), [CallTest("f", (2,))], Limits(20)).results[0]
    assert result.value != 2


def test_16_early_exit(sandbox: Sandbox):
    """A script that exits with 0 has finished, with what it printed and no more."""
    result = attack(sandbox, 'import os\nos.write(1, b\'{"status": "passed"}\')\nos._exit(0)\nprint(42)')
    assert (result.status, result.output) == (Status.FINISHED, b'{"status": "passed"}')


def test_17_network(sandbox: Sandbox):
    """No listener of this machine is reached, by TCP or by an abstract socket, nor one made inside."""
    abstract = f"\0evalsuite-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(abstract)
        unix.listen()
        for connect in (
            f"socket.create_connection(('127.0.0.1', {tcp.getsockname()[1]}), 1)",
            f"socket.socket(socket.AF_UNIX).connect({abstract!r})",
            f"socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', {abstract!r})",
            "socket.create_server(('127.0.0.1', 0))",
        ):
            assert attack(sandbox, f"import socket\n{connect}").status is Status.RUNTIME_ERROR
        for listener in (tcp, unix):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("target", ["os.getppid()", "-1", "0"])
def test_18_kill(either: Sandbox, target: str, bystander: subprocess.Popen[bytes]):
    """A program that kills and stops what it can reach hits at most itself, neither its driver nor anybody outside."""
    source = f"""
import os, signal
if input() == '2':
    for number in (signal.SIGSTOP, signal.SIGKILL): os.kill({target}, number)
print('ran')
"""
    results = several(either, source, b"1", b"2", b"3", wall_s=2).results
    assert [result.output for result in (results[0], results[2])] == [b"ran\n"] * 2
    # Signals to the first process of a namespace are lost, there is nobody else, and a group that stops itself goes on to
    # no kill.
    status = {"os.getppid()": Status.FINISHED, "-1": Status.RUNTIME_ERROR, "0": Status.TIME_LIMIT}
    assert results[1].status is status[target]
    assert bystander.poll() is None


CALLS = {
    "19 ptrace": "libc.ptrace(16, os.getppid(), 0, 0)",
    "20 user namespace": "libc.unshare(0x10000000)",
    "mount": "libc.mount(b'none', b'/box', b'tmpfs', 0, 0)",
    "keyring": "libc.syscall(250, 0, -4, 1)",
    "shared memory": "libc.shmget(0, 1 << 30, 0o1600)",
    "limits of another": "libc.prlimit(os.getppid(), 7, b'\\0' * 16, 0)",
    "session": "libc.setsid()",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_19_20_refused_calls(either: Sandbox, call: str):
    """Calls into other processes, namespaces and kernel stores are refused with EPERM."""
    source = f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nprint({call}, ctypes.get_errno())"
    assert attack(either, source).output == b"-1 1\n"


def test_21_limits_cannot_be_raised(sandbox: Sandbox):
    """Every limit is hard."""
    source = """
import resource
for name in ('AS', 'CPU', 'FSIZE', 'NOFILE', 'NPROC', 'CORE'):
    kind = getattr(resource, f'RLIMIT_{name}')
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(name)
    except ValueError:
        pass
"""
    result = attack(sandbox, source)
    assert (result.status, result.output) == (Status.FINISHED, b"")


@pytest.mark.parametrize(
    ("source", "most"),
    [
        ("f = open('/box/f', 'wb', 0)\nfor _ in range(40): print(f.write(b'x' * (1 << 20)), flush=True)", 16),
        ("for i in range(200): print(open(f'/box/{i}', 'wb', 0).write(b'x' * (1 << 20)), flush=True)", 64),
        ("for i in range(200): print(open(f'/dev/shm/{i}', 'wb', 0).write(b'x' * (1 << 16)), flush=True)", 16),
        ("f = [open(f'/box/{i}', 'w') for i in range(200)]", 0),
    ],
    ids=["22 huge file", "22 full disk", "23 shared memory", "22 open files"],
)
def test_22_23_files(sandbox: Sandbox, source: str, most: int):
    """Files end at 16 MiB, the box at 64 MiB, shared memory at 1 MiB, open files at 64."""
    result = attack(sandbox, source)
    assert result.status is Status.RUNTIME_ERROR
    assert sum(map(int, result.output.split())) <= most * MIB


def test_24_31_nothing_is_left(either: Sandbox):
    """Thousands of files, a locked folder and changed modules of one test are gone in the next."""
    source = """
import builtins, os
if input() == 'dirty':
    for index in range(2000): open(f'/box/{index}', 'w')
    os.makedirs('/box/a/b'); open('/box/a/b/c', 'w'); os.chmod('/box/a/b', 0); os.chmod('/box/a', 0)
    os.symlink('/usr', '/box/link'); open('/dev/shm/left', 'w'); builtins.left = os.left = 1
    globals()['left'] = 1
box, shm = (len(os.listdir(name)) for name in ('/box', '/dev/shm'))
print(box, shm, hasattr(builtins, 'left'), hasattr(os, 'left'), 'left' in globals())
"""
    results = several(either, source, b"dirty", b"clean").results
    assert results[0].output == b"2002 1 True True True\n"
    assert results[1].output == b"0 0 False False False\n"


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
        ("import os\nos.abort()", "SIGABRT"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("raise SystemExit(3)", "exit code 3"),
        ("raise SystemExit('no')", "no"),
        ("int('x')", "ValueError: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_25_crashes(sandbox: Sandbox, source: str, detail: str):
    """A crash is a runtime error, and its detail says which."""
    result = attack(sandbox, source)
    assert (result.status, result.detail) == (Status.RUNTIME_ERROR, detail)


def test_26_unread_input(sandbox: Sandbox):
    """50 MB of input that nobody reads hold nothing up."""
    result = attack(sandbox, "print('done')", b"x" * 50_000_000)
    assert (result.status, result.output) == (Status.FINISHED, b"done\n")


def test_27_daemon(sandbox: Sandbox):
    """A daemon that would keep the pipes open does not start."""
    source = "import subprocess\nsubprocess.Popen(['/bin/sleep', '77777'], start_new_session=True)\nprint('on')"
    result = attack(sandbox, source)
    assert (result.status, result.output) == (Status.RUNTIME_ERROR, b"")
    alive = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"77777" in command for command in alive)


def test_28_bytes(sandbox: Sandbox):
    """Invalid UTF-8 and NUL bytes arrive as they were written."""
    result = attack(sandbox, "import sys\nsys.stdout.buffer.write(bytes(range(256)))\nprint(chr(0xdc80))")
    assert result.output == bytes(range(256)) + b"\x80\n"


def test_29_unicode(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """Text is UTF-8 both ways, whatever the locale of this machine."""
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setenv("LC_ALL", "C")
    text = "Größe 数 🐦\n"
    assert attack(sandbox, "print(input())", text.encode()).output == text.encode()


def test_30_tty_and_links(sandbox: Sandbox):
    """There is no terminal to type into, and a link out of the box leads nowhere."""
    source = """
import fcntl, os, termios
for path in ('/dev/tty', '/dev/console', '/dev/pts/0'):
    try: fcntl.ioctl(os.open(path, os.O_RDWR), termios.TIOCSTI, b'x'); print(path)
    except OSError: pass
os.symlink('/etc/passwd', '/box/link')
try: print(open('/box/link').read())
except OSError: pass
"""
    result = attack(sandbox, source)
    assert (result.status, result.output) == (Status.FINISHED, b"")


def test_32_forged_frames(either: Sandbox):
    """The driver's channel cannot be opened, read or written by the program it runs."""
    source = r"""
import glob, os, struct
done = []
header = b'{"status": "finished", "detail": "", "cpu_s": 0, "wall_s": 0}'
forged = struct.pack('>II', len(header), 2) + header + b'42'
for path in glob.glob(f'/proc/{os.getppid()}/fd/*') + [f'/proc/{os.getppid()}/mem'] + [f'/proc/1/fd/{n}' for n in range(9)]:
    try: open(path, 'wb').write(forged); done.append(path)
    except OSError: pass
for descriptor in range(3, 64):
    try: os.write(descriptor, forged); done.append(descriptor)
    except OSError: pass
print(done)
"""
    results = several(either, source, b"1", b"2").results
    # 3 is where a function's value is said: a script that writes there says something nobody asked for
    assert [result.output for result in results] == [b"[3]\n"] * 2


def test_proc_shows_only_the_sandbox(either: Sandbox):
    """A program sees its driver, as the first process, and itself."""
    source = "import os\nprint([int(name) for name in os.listdir('/proc') if name.isdigit()], os.getpid())"
    output = attack(either, source).output.decode()
    assert re.fullmatch(r"\[1, (\d+)\] \1\n", output)


def test_killed_by_signal_from_outside(sandbox: Sandbox):
    """Time is up means SIGKILL: a program that catches everything else is gone all the same."""
    source = "import time\nwhile True:\n try: time.sleep(9)\n except BaseException: pass"
    assert attack(sandbox, source, wall_s=0.3).status is Status.TIME_LIMIT
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
