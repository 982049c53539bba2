"""The process inside the sandbox: takes programs and tests on standard input, forks for each test, tells how it ended.

It stands alone: `python -c SOURCE` with the standard library, so that it runs wherever an interpreter is. The other side
imports the frames and the carrying of values from here. Every message is a frame: two lengths, a JSON object, and bytes.

    them                               us
    place, limits, filter, prelude →   ready | error
    source                         →   loaded | syntax_error
    a test, its input in the bytes →   said (bytes: what the program says beside its output), any number of times
    more to hear, while it runs    →
                                       status, detail, cpu_s, wall_s (bytes: the output)

Nobody believes what comes out of here more than a program's own output: a program may kill or forge us. It gains nothing,
as no expected answer is inside.
"""

# Imports inside functions, and none of typing: a millisecond here is paid for every solution.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

LENGTHS = struct.Struct(">II")
SAID_FD, HEARD_FD = 3, 4
OUT_OF_MEMORY, TOO_LONG = 97, 98
"""Exit codes of a test that ended by an uncaught MemoryError, or whose value is longer than an output may be."""
FILE_BYTES, OPEN_FILES, PROCESSES = 16 << 20, 64, 64
"""Limits that are the same for all tasks."""
DRAIN_S = 0.5


def frame(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return a message as bytes."""
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), len(payload)) + text + payload


def read_frame(read: Callable[[int], bytes], most_header: int, most_payload: int) -> tuple[dict[str, Any], bytes]:
    """Read a message; `read` returns exactly as many bytes as asked. ValueError where it is too long or no JSON object."""
    header_bytes, payload_bytes = LENGTHS.unpack(read(LENGTHS.size))
    if header_bytes > most_header or payload_bytes > most_payload:
        raise ValueError(f"a message of {header_bytes} + {payload_bytes} bytes")
    header = json.loads(read(header_bytes))
    if not isinstance(header, dict):
        raise ValueError("a message that is no object")  # noqa: TRY004 - bad data, not a caller's mistake
    return header, read(payload_bytes)


# --- values -----------------------------------------------------------------------------------------------------------


class Foreign:
    """Stands for a value that cannot be carried; it equals nothing else."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    def __repr__(self) -> str:
        return f"<{self.name}: {self.text}>"


def encode(value: Any) -> Any:
    """Return a value as JSON data from which `decode` makes its equal, tuples, sets, other keys and NaN told apart.

    An object of any other class becomes `Foreign`, one of a subclass of a built-in class its plain content.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) < 1 << 53 else {"t": "int", "v": hex(value)}
    if kind is float:
        return value if value - value == 0 else {"t": "float", "v": repr(value)}
    if kind is list:
        return [encode(item) for item in value]
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ == "numpy":
        return _encode_numpy(value, name)
    if name in _ENCODERS:
        tag, content = _ENCODERS[name]
        return {"t": tag, "v": content(value)}
    for base in (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset):
        if isinstance(value, base):
            return encode(base(value))  # type: ignore[arg-type] # it is one of them
    return {"t": "foreign", "v": [name, repr(value)[:200]]}


def decode(data: Any) -> Any:
    """Return the value that `encode` was given. Raises ValueError, whatever is wrong with the data."""
    try:
        return _decode(data)
    except (TypeError, KeyError, AttributeError, ArithmeticError, RecursionError, ImportError, MemoryError) as error:
        raise ValueError(f"not a value: {error!r}") from error


def _decode(data: Any) -> Any:
    if isinstance(data, list):
        return [_decode(item) for item in data]
    if isinstance(data, dict):
        return _DECODERS[data["t"]](data["v"])
    return data


def _items(values: Any) -> list[Any]:
    return [encode(value) for value in values]


def _encode_numpy(value: Any, name: str) -> Any:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in tuple("?biufcUS"):
        return {"t": "numpy", "v": [value.dtype.str, list(value.shape), _items(value.ravel().tolist())]}
    return {"t": "foreign", "v": [name, repr(value)[:200]]}


def _decode_numpy(content: Any) -> Any:
    """Return an array, or for no shape a scalar; without numpy the plain list or number."""
    kind, shape, items = content
    items = [_decode(item) for item in items]
    try:
        import numpy as np
    except ImportError:
        return items if shape else items[0]
    array = np.array(items, dtype=kind).reshape(shape)
    return array if shape else array[()]


def _decode_decimal(content: Any) -> Any:
    from decimal import Decimal

    return Decimal(content)


def _decode_fraction(content: Any) -> Any:
    from fractions import Fraction

    return Fraction(*map(_decode, content))


def _decode_deque(content: Any) -> Any:
    from collections import deque

    return deque(_decode(content))


_ENCODERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "builtins.tuple": ("tuple", _items),
    "builtins.set": ("set", _items),
    "builtins.frozenset": ("frozenset", _items),
    "builtins.dict": ("dict", lambda value: [[encode(key), encode(item)] for key, item in value.items()]),
    "builtins.complex": ("complex", lambda value: [encode(value.real), encode(value.imag)]),
    "builtins.bytes": ("bytes", lambda value: value.decode("latin-1")),
    "builtins.bytearray": ("bytearray", lambda value: value.decode("latin-1")),
    "builtins.range": ("range", lambda value: _items([value.start, value.stop, value.step])),
    "decimal.Decimal": ("decimal", str),
    "fractions.Fraction": ("fraction", lambda value: _items([value.numerator, value.denominator])),
    "collections.deque": ("deque", _items),
}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda content: int(content, 16),
    "float": float,
    "tuple": lambda content: tuple(_decode(content)),
    "set": lambda content: set(_decode(content)),
    "frozenset": lambda content: frozenset(_decode(content)),
    "dict": lambda content: {_decode(key): _decode(item) for key, item in content},
    "complex": lambda content: complex(*map(_decode, content)),
    "bytes": lambda content: content.encode("latin-1"),
    "bytearray": lambda content: bytearray(content.encode("latin-1")),
    "range": lambda content: range(*map(_decode, content)),
    "decimal": _decode_decimal,
    "fraction": _decode_fraction,
    "deque": _decode_deque,
    "numpy": _decode_numpy,
    "foreign": lambda content: Foreign(*content),
}


# --- the driver -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Serve one solution: set up, compile, then one test after the other until nobody asks any more."""
    source, sink = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - pathlib is slow to import
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    channel = Channel(source, sink)
    setup, filter_ = channel.read()
    try:
        kernel = confine(setup, filter_)
        module = prepare(setup)
    except Exception as error:  # noqa: BLE001 - whatever it is, they must hear of it
        channel.write({"error": f"{type(error).__name__}: {error}"})
        return
    channel.write({"ready": True})
    code = load(channel.read()[1].decode("utf-8", "surrogatepass"))
    channel.write({"syntax_error": code} if isinstance(code, str) else {"loaded": True})
    if isinstance(code, str):
        return
    import gc

    gc.freeze()  # what was loaded so far is never collected, so the forks do not copy its pages
    while True:
        test, data = channel.read()
        run_test(Test(code, module, test, data, setup["limits"], kernel), channel)
        for folder in setup["place"]["clean"]:
            empty(folder)


class Channel:
    """The frames to and from the other side, which may be a socket or two pipes."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink

    def read(self) -> tuple[dict[str, Any], bytes]:
        """Return the next message; the process ends quietly when there will be none."""
        return read_frame(lambda size: read_exactly(self.source, size), 1 << 30, 1 << 30)

    def write(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Send a message."""
        write_all(self.sink, frame(header, payload))


def read_exactly(descriptor: int, size: int) -> bytes:
    """Return `size` bytes; SystemExit at the end of the stream."""
    parts = []
    while size > 0:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            raise SystemExit
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def prepare(setup: Mapping[str, Any]) -> ModuleType:
    """Limit our memory, make the packages importable and run the prelude in the module that every test starts from."""
    sys.path.extend(setup["place"]["path"])
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (setup["limits"]["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    module = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(setup["prelude"], "<prelude>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    return module


def load(source: str) -> CodeType | str:
    """Compile a solution, or say why it cannot be."""
    import warnings

    warnings.simplefilter("ignore")
    try:
        return compile(source, "<solution>", "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        warnings.resetwarnings()


class Test:
    """A program, one test of it, and what it may use."""

    def __init__(
        self,
        code: CodeType,
        module: ModuleType,
        message: Mapping[str, Any],
        data: bytes,
        limits: Mapping[str, Any],
        kernel: Kernel | None,
    ) -> None:
        self.code, self.module, self.message, self.data, self.limits = code, module, message, data, limits
        self.kernel = kernel


def run_test(test: Test, channel: Channel) -> None:
    """Fork, watch the child, report how it ended."""
    stdin = anonymous_file(test.data if test.message["mode"] == "stdin" else b"")
    out, err, said, heard = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become(test, stdin, out[1], err[1], said[1], heard[0])
        finally:
            os._exit(1)
    for descriptor in (stdin, out[1], err[1], said[1], heard[0]):
        os.close(descriptor)
    watched = Watched(pid, out[0], err[0], said[0], heard[1], test.limits, channel)
    try:
        watched.watch()
    finally:
        for descriptor in (out[0], err[0], said[0], heard[1]):
            os.close(descriptor)
    channel.write(watched.report(), bytes(watched.buffers[out[0]]))


def anonymous_file(data: bytes) -> int:
    """Return a file without a name, positioned at its start: an unread input blocks nobody."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stdin")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    write_all(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class Watched:
    """A running test: what it has written, what it has said, and how it ended."""

    def __init__(
        self, pid: int, out: int, err: int, said: int, heard: int, limits: Mapping[str, Any], channel: Channel
    ) -> None:
        self.pid, self.out, self.err, self.said, self.heard = pid, out, err, said, heard
        self.limits, self.channel = limits, channel
        self.buffers = {out: bytearray(), err: bytearray(), said: bytearray()}
        self.open = {out, err, said, channel.source}
        self.killed = ""
        self.code = 0
        self.cpu_s = self.wall_s = 0.0

    def watch(self) -> None:
        """Return when the child has ended and its pipes are empty, or the grace for that is over."""
        start = time.monotonic()
        deadline, ended, pause = start + self.limits["wall_s"], None, 0.0002
        while True:
            now = time.monotonic()
            if ended is None and now >= deadline:
                self.kill("time_limit")
            if ended is None:
                ended = self.reap(now)
                self.wall_s = now - start
            pipes = self.open - {self.channel.source}
            if ended is not None and (not pipes or now > ended + DRAIN_S):
                return
            if not pipes:  # it closed them or is about to be gone
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
                continue
            for descriptor in select.select(list(self.open), [], [], max(0.0, min(deadline - now, 0.05)))[0]:
                self.take(descriptor)

    def reap(self, now: float) -> float | None:
        """Return the time if the child is gone."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.code, self.cpu_s = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        return now

    def take(self, descriptor: int) -> None:
        """Move what has arrived one step on."""
        if descriptor == self.channel.source:
            self.hear()
            return
        data = os.read(descriptor, 1 << 16)
        buffer = self.buffers[descriptor]
        if not data:
            self.open.discard(descriptor)
        elif not self.killed:
            buffer += data
            if descriptor == self.said:
                self.pass_on(buffer)
            elif len(buffer) > self.limits["output_bytes"]:
                del buffer[self.limits["output_bytes"] :]
                self.kill("output_limit")

    def hear(self) -> None:
        """Hand a message from outside to the child; one that does not listen any more has ended."""
        _, data = self.channel.read()
        try:
            write_all(self.heard, LENGTHS.pack(len(data), 0) + data)
        except BrokenPipeError:
            self.open.discard(self.channel.source)

    def pass_on(self, buffer: bytearray) -> None:
        """Send on every whole message in the buffer."""
        while len(buffer) >= LENGTHS.size:
            size = LENGTHS.unpack_from(buffer)[0]
            if size > self.limits["said_bytes"]:
                self.kill("output_limit")
                return
            if len(buffer) < LENGTHS.size + size:
                return
            self.channel.write({"said": True}, bytes(buffer[LENGTHS.size : LENGTHS.size + size]))
            del buffer[: LENGTHS.size + size]

    def kill(self, reason: str) -> None:
        """End the child for a reason; the first one counts."""
        self.killed = self.killed or reason
        os.kill(self.pid, signal.SIGKILL)

    def report(self) -> dict[str, Any]:
        """Say how it ended."""
        lines = self.buffers[self.err].decode("utf-8", "replace").split("\n")
        last = next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
        status, detail = "finished", ""
        if self.killed:
            status = self.killed
        elif self.code == OUT_OF_MEMORY:
            status = "memory_limit"
        elif self.code == TOO_LONG:
            status, detail = "output_limit", "the value is too long"
        elif self.code == -signal.SIGXCPU or (self.code == -signal.SIGKILL and self.cpu_s >= self.limits["cpu_s"]):
            status = "time_limit"
        elif self.code:
            status = "runtime_error"
            detail = signal.Signals(-self.code).name if self.code < 0 else last or f"exit code {self.code}"
        return {"status": status, "detail": detail, "cpu_s": self.cpu_s, "wall_s": self.wall_s}


def empty(folder: str) -> None:
    """Remove everything in a folder, so that no test finds what another left."""
    names = os.listdir(folder)  # noqa: PTH208 - pathlib takes longer to import than this takes
    if not names:
        return
    import shutil

    for name in names:
        path = f"{folder}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            os.chmod(path, 0o700)  # noqa: PTH101
            for where, inner, _ in os.walk(path):
                for folder_name in inner:
                    if not os.path.islink(f"{where}/{folder_name}"):  # noqa: PTH114
                        os.chmod(f"{where}/{folder_name}", 0o700)  # noqa: PTH101
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)  # noqa: PTH108


# --- the child --------------------------------------------------------------------------------------------------------


def become(test: Test, stdin: int, out: int, err: int, said: int, heard: int) -> NoReturn:
    """Be the program, limited, and end as it ends."""
    for number, descriptor in enumerate((stdin, out, err, said, heard)):
        os.dup2(descriptor, number)
    os.closerange(HEARD_FD + 1, OPEN_FILES)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # As in UTF-8 mode, and new: what the driver has read or written must not be in their buffers.
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape")  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="surrogateescape")  # type: ignore[misc] # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # type: ignore[misc] # noqa: SIM115
    sys.argv = ["solution.py"]
    cpu = test.limits["cpu_s"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
    if test.kernel is not None:
        test.kernel.confine_child()
    code = guarded(lambda: MODES[test.message["mode"]](test))
    code = guarded(finish) or code
    os._exit(code)


def guarded(action: Callable[[], object]) -> int:
    """Do something of the program's and return the exit code that an interpreter would end with."""
    try:
        action()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
    except MemoryError:
        return OUT_OF_MEMORY
    except BaseException:  # noqa: BLE001 - it is the program's, to be shown as the interpreter shows it
        sys.excepthook(*sys.exc_info())
    else:
        return 0
    return 1


def finish() -> None:
    """Do what the interpreter does at its end: wait for threads, run what was registered, flush."""
    import atexit

    threading: Any = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()  # noqa: SLF001 - the interpreter's own, and there is no other
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def run_stdin(test: Test) -> None:
    """Be a script."""
    exec(test.code, test.module.__dict__)  # noqa: S102


def run_call(test: Test) -> None:
    """Call one function and say its value."""
    function, method_of, arguments = test.message["function"], test.message["method_of"], decode(json.loads(test.data))
    defined = import_solution(test)
    owner = defined[method_of]() if method_of else None
    called = getattr(owner, function) if method_of else defined[function]
    say(test, {"value": encode(called(*arguments))})


def run_serve(test: Test) -> None:
    """Answer calls until nobody listens: the value or the exception, and the arguments where the call changed them."""
    function = import_solution(test)[test.message["function"]]
    say(test, {"loaded": True})
    while True:
        call = json.loads(hear())
        arguments, keywords = decode(call["arguments"]), decode(call["keywords"])
        try:
            answer: dict[str, Any] = {"value": encode(function(*arguments, **keywords))}
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the checker may expect it
            answer = {"raised": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}
        after = encode(arguments)
        say(test, answer | ({} if after == call["arguments"] else {"arguments": after}))


def run_check(test: Test) -> None:
    """Be a checker whose candidate runs elsewhere; say the nonce if it comes to its end."""
    asked = [False]

    def candidate(*arguments: Any, **keywords: Any) -> Any:
        say(test, {"arguments": encode(arguments), "keywords": encode(keywords)})
        answer = json.loads(hear())
        for mine, changed in zip(arguments, decode(answer.get("arguments", [])) or (), strict=False):
            put_back(mine, changed)
        if "raised" in answer:
            asked[0] = True
            raise raised(answer["raised"], answer["message"])
        return decode(answer["value"])

    name, module = test.message["function"], test.module
    module.__dict__[name] = FunctionType(candidate.__code__, globals(), name, None, candidate.__closure__)
    try:
        exec(test.code, module.__dict__)  # noqa: S102
    except Exception as error:
        by = "solution" if asked[0] else "checker"
        say(test, {"failed": by, "detail": f"{type(error).__name__}: {error}"[:300]})
        raise
    say(test, {"passed": test.message["nonce"]})


def import_solution(test: Test) -> dict[str, Any]:
    """Run the program as a module that is not the main one, and return what it defines."""
    test.module.__name__ = "solution"
    sys.modules["solution"] = test.module
    exec(test.code, test.module.__dict__)  # noqa: S102
    return test.module.__dict__


def put_back(mine: Any, changed: Any) -> None:
    """Give an argument the content that the call left in it elsewhere."""
    if isinstance(mine, dict | set):
        mine.clear()
        mine.update(changed)
    elif isinstance(mine, list | bytearray):
        mine[:] = changed
    elif type(mine).__name__ == "deque":
        mine.clear()
        mine.extend(changed)
    elif type(mine).__module__ == "numpy" and mine.shape:
        mine[...] = changed


def raised(names: list[str], message: str) -> Exception:
    """Return an exception of the same name below the nearest built-in class that the original one had."""
    import builtins

    known = [getattr(builtins, name, None) for name in names]
    base = next((kind for kind in known if isinstance(kind, type) and issubclass(kind, Exception)), Exception)
    kind: type[Exception] = base if base.__name__ == names[0] else type(names[0], (base,), {})
    made = kind.__new__(kind)
    made.args = (message,)
    return made


def say(test: Test, message: Mapping[str, Any]) -> None:
    """Tell the other side something beside the output."""
    data = json.dumps(message).encode()
    if len(data) > test.limits["said_bytes"]:
        os._exit(TOO_LONG)
    write_all(SAID_FD, LENGTHS.pack(len(data), 0) + data)


def hear() -> bytes:
    """Wait for the other side; the program ends when it has gone."""
    return read_exactly(HEARD_FD, LENGTHS.unpack(read_exactly(HEARD_FD, LENGTHS.size))[0])


MODES: dict[str, Callable[[Test], None]] = {
    "stdin": run_stdin,
    "call": run_call,
    "serve": run_serve,
    "check": run_check,
}


# --- the kernel -------------------------------------------------------------------------------------------------------

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = (
    1,
    4,
    22,
    24,
    38,
)  # <linux/prctl.h>


def confine(setup: Mapping[str, Any], filter_: bytes) -> Kernel | None:
    """Make the driver unreadable for its children; with `readable`, leave the rest of the file system behind."""
    if sys.platform != "linux":
        return None
    kernel = Kernel(filter_)
    kernel.prctl(PR_SET_DUMPABLE, 0)
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
    if setup["place"].get("readable"):
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.drop_capabilities()
        kernel.restrict(setup["place"]["readable"])
    return kernel


class Kernel:
    """What has no function in the standard library."""

    def __init__(self, filter_: bytes) -> None:
        import ctypes

        self.ctypes, self.libc = ctypes, ctypes.CDLL(None, use_errno=True)
        self.filter = ctypes.create_string_buffer(filter_, len(filter_))
        # struct sock_fprog: the number of instructions, and where they are
        self.program = struct.pack("@HP", len(filter_) // 8, ctypes.addressof(self.filter))

    def prctl(self, option: int, argument: Any, more: int | bytes = 0) -> None:
        """Call prctl; OSError where it fails."""
        number = self.ctypes.c_ulong
        second = more if isinstance(more, bytes) else number(more)
        self.check(self.libc.prctl(option, number(argument), second, number(0), number(0)), "prctl")

    def syscall(self, name: str, number: int, *arguments: Any) -> int:
        """Call the kernel by number; OSError where it fails."""
        return self.check(self.libc.syscall(self.ctypes.c_long(number), *arguments), name)

    def check(self, result: int, name: str) -> int:
        """Return a result that is no failure."""
        if result < 0:
            number = self.ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result

    def confine_child(self) -> None:
        """Die with the driver, refuse to fork and the rest of the filter; be readable for oneself again."""
        self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        self.prctl(PR_SET_DUMPABLE, 1)
        self.prctl(PR_SET_SECCOMP, 2, self.program)

    def drop_capabilities(self) -> None:
        """Give up what uid 0 may do beyond its files."""
        for capability in self.bounding_set():
            self.prctl(PR_CAPBSET_DROP, capability)
        header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, ourselves
        self.check(self.libc.capset(header, bytes(24)), "capset")

    def bounding_set(self) -> Iterator[int]:
        """Yield the capabilities that could come back by running a program; only who may drop them has any."""
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            fields = dict(line.split(":", 1) for line in status)
        if int(fields["CapEff"], 16) >> 8 & 1:  # CAP_SETPCAP
            yield from (number for number in range(64) if int(fields["CapBnd"], 16) >> number & 1)

    def restrict(self, readable: list[str]) -> None:
        """Landlock: only these paths can be read and run, nothing written but /dev/null; no TCP, no signals outside."""
        everything, read_and_run, null, of_files = (1 << 16) - 1, 0b1101, 0b0110, 0b0111  # LANDLOCK_ACCESS_FS_*
        rules = struct.pack("=QQQ", everything, 3, 3)  # file system; bind and connect; abstract sockets and signals
        ruleset = self.syscall("landlock_create_ruleset", 444, rules, self.ctypes.c_size_t(len(rules)), 0)
        for path, rights in [*((path, read_and_run) for path in readable), ("/dev/null", null), ("/dev/urandom", 4)]:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = rights if os.path.isdir(path) else rights & of_files  # noqa: PTH112
            rule = struct.pack("=Qi", allowed, descriptor)
            self.syscall("landlock_add_rule", 445, ruleset, 1, rule, 0)
            os.close(descriptor)
        self.syscall("landlock_restrict_self", 446, ruleset, 0)
        os.close(ruleset)


if __name__ == "__main__":
    main()
