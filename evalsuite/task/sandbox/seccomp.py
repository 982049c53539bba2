"""The system calls that a program is refused, as a classic BPF program for seccomp(2); x86-64 and aarch64.

The instruction set is that of <linux/bpf_common.h>, the data that of `struct seccomp_data`: number at byte 0, architecture
at 4, the arguments as 64-bit words from 16 on. Numbers are those of <asm/unistd_64.h> and <asm-generic/unistd.h>.
"""

import errno
import platform
import struct

_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_GREATER_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
_NUMBER, _ARCHITECTURE = 0, 4
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000
_CLONE_THREAD, _SOCK_STREAM, _SOCK_TYPE_MASK, _X32_BIT = 0x10000, 1, 0xF, 0x40000000

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of <linux/audit.h>."""

DENIED = {
    # processes
    "fork": (57, None), "vfork": (58, None), "setsid": (112, 157), "setpgid": (109, 154),
    "unshare": (272, 97), "setns": (308, 268),
    # other processes' memory, files and signals; `kill` stays, as a program may end itself
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    # parts of the kernel that programs of this kind never need
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    # the file system's shape
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "open_tree": (428, 428),
    "move_mount": (429, 429), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    # sockets; `socketpair` and `sendto` stay, as asyncio hangs without them
    "socket": (41, 198), "bind": (49, 200), "connect": (42, 203), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # memory that outlives the process and that no limit counts
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
}  # fmt: skip
"""Refused with EPERM: name → number on x86-64, on aarch64."""

OWN_ONLY = {
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}  # fmt: skip
"""Refused unless the first argument, a process id, is 0: the caller itself."""

CLONE, CLONE3, SOCKETPAIR = (56, 220), (435, 435), (53, 199)


def no_fork_filter(machine: str | None = None) -> bytes:
    """Return the filter for this machine, or for `x86_64` or `aarch64`; KeyError for any other.

    A foreign architecture is killed. clone3 is "not implemented", so that the C library falls back to clone, whose flags
    can be read here: threads may start, processes may not. Stream socket pairs may be made, datagram ones not.
    """
    machine = machine or platform.machine()
    architecture, column = ARCHITECTURES[machine], list(ARCHITECTURES).index(machine)
    refuse, absent = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT),  # the other way to number calls on x86-64
        (_RETURN, 0, 0, absent),
        (_JUMP_EQUAL, 0, 1, CLONE3[column]),
        (_RETURN, 0, 0, absent),
        (_JUMP_EQUAL, 0, 4, CLONE[column]),
        (_LOAD, 0, 0, _argument(0)),
        (_JUMP_SET, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, _ALLOW),
        (_JUMP_EQUAL, 0, 5, SOCKETPAIR[column]),
        (_LOAD, 0, 0, _argument(1)),
        (_AND, 0, 0, _SOCK_TYPE_MASK),
        (_JUMP_EQUAL, 1, 0, _SOCK_STREAM),
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for numbers in OWN_ONLY.values():
        program += [
            (_JUMP_EQUAL, 0, 4, numbers[column]),
            (_LOAD, 0, 0, _argument(0)),
            (_JUMP_EQUAL, 1, 0, 0),
            (_RETURN, 0, 0, refuse),
            (_RETURN, 0, 0, _ALLOW),
        ]
    for denied in DENIED.values():
        number = denied[column]
        if number is not None:
            program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _argument(index: int) -> int:
    """Where the lower half of an argument lies; both architectures are little-endian."""
    return 16 + 8 * index
