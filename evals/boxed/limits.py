"""Limits that a process in the sandbox puts on itself before it reads a line that is not ours."""

import os
import resource
import sys
from itertools import pairwise

from evals.boxed.system_calls import refuse_system_calls

MEBIBYTE = 2**20


def limit_self(
    *, memory_mb: int, cpu_seconds: int, processes: int, file_mb: int, keep: tuple[int, ...] = ()
) -> None:
    """Lower this process's limits for good, refuse it dangerous system calls, and close its files.

    Descriptors 0, 1, 2 and `keep` stay open.

    Processes are counted per sandbox (Linux 5.14 or newer) and include threads.
    """
    for limit, value in (
        (resource.RLIMIT_AS, memory_mb * MEBIBYTE),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_FSIZE, file_mb * MEBIBYTE),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(limit, (value, value))
    for low, high in pairwise([2, *sorted(keep), 2**16]):
        os.closerange(low + 1, high)
    refuse_system_calls()
    sys.set_int_max_str_digits(0)  # problems with numbers of thousands of digits are fair
