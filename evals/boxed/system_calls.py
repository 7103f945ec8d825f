"""System calls that a program in the sandbox is refused, by a seccomp filter of its own process.

They would give it memory that no limit counts (shared memory, keys), namespaces with new rights, or
a look into other processes. See seccomp(2); numbers from the kernel's tables.
"""

import ctypes
import platform
import struct
from errno import ENOSYS, EPERM

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, ERROR, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
# Positions in struct seccomp_data.
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
NEW_NAMESPACES = 0x7E020000
OTHER_CALLING_CONVENTIONS = 0x40000000
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Processors by their names in audit records; the calls below have a number for each."""
REFUSED = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_create": (319, 279),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "memfd_secret": (447, 447),
}
CLONE = (56, 220)
CLONE3 = 435
SOCKET = (41, 198)
FIRST_OTHER_NETWORK = 17
"""Address families from here on are raw, or reach past a network namespace, to a virtual host."""


def refuse_system_calls() -> None:
    """Refuse them to this process, its threads and its children, for good.

    Raises
    ------
    OSError
        When the kernel takes no filter.
    RuntimeError
        On a processor whose call numbers are not listed here.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        raise RuntimeError(f"no list of system calls for {machine}, only {', '.join(MACHINES)}")
    steps = b"".join(_filter(machine))
    code = ctypes.create_string_buffer(steps, len(steps))
    program = struct.pack("HxxxxxxP", len(steps) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0)),
        (PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), program),
    ):
        if libc.prctl(*arguments, ctypes.c_ulong(0), ctypes.c_ulong(0)):
            raise OSError(ctypes.get_errno(), "no seccomp filter")


def _filter(machine: str) -> list[bytes]:
    place = list(MACHINES).index(machine)
    refused = [numbers[place] for numbers in REFUSED.values()]
    return [
        _step(LOAD, ARCHITECTURE),
        _step(EQUAL, MACHINES[machine], if_true=1),
        _step(RETURN, KILL),
        _step(LOAD, NUMBER),
        *_answer(AT_LEAST, OTHER_CALLING_CONVENTIONS, EPERM),
        *(step for number in refused for step in _answer(EQUAL, number, EPERM)),
        *_answer(EQUAL, CLONE3, ENOSYS),  # its flags are out of sight; callers fall back to clone
        *_refuse_argument(CLONE[place], ANY_BIT, NEW_NAMESPACES),
        *_refuse_argument(SOCKET[place], AT_LEAST, FIRST_OTHER_NETWORK),
        _step(RETURN, ALLOW),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _refuse_argument(number: int, test: int, value: int) -> list[bytes]:
    check = [_step(LOAD, FIRST_ARGUMENT), *_answer(test, value, EPERM), _step(RETURN, ALLOW)]
    return [_step(EQUAL, number, if_false=len(check)), *check]


def _answer(test: int, value: int, error: int) -> list[bytes]:
    return [_step(test, value, if_false=1), _step(RETURN, ERROR | error)]
