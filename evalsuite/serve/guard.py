"""Run a program that dies with the process that asked for it: `guard.py PARENT_PID MEMORY PROGRAM [ARGUMENT ...]`.

MEMORY is the most bytes of address space that the program may have, 0 for no limit.

On Linux the kernel is asked to kill us when the parent's thread ends, and the program takes our place. Elsewhere we
stay, and end the program when the pipe on our standard input closes, as it does however the parent dies.
Only the standard library: it runs with `python -I -S`.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> int:
    """Become the program, or watch it."""
    parent, memory, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the request took effect
            return 1
        try:
            os.execv(command[0], command)  # noqa: S606 - no shell is wanted
        except OSError as error:
            sys.stderr.write(f"E {command[0]}: {error.strerror}\n")
            return 127
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:

        def wait_for_parent() -> None:
            sys.stdin.buffer.read()
            process.kill()

        threading.Thread(target=wait_for_parent, daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    sys.exit(main())
