"""Does a program pass the tests of a problem? Decided where the program cannot reach.

Two sandboxes per problem, joined by pipes: one runs the program and answers calls, the other runs
the tests, whose functions are calls of the first. Only the second writes a verdict, and only plain
data comes to it from the first (docs/decisions/0006-two-sandboxes.md says why).
"""

import contextlib
import json
import os
import select
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import IO

from evals.sandbox import MEBIBYTE, SandboxLimits, end, start

MAX_VERDICT_BYTES = 8192
SECONDS_TO_START = 60


@dataclass(frozen=True)
class Check:
    """A program and the tests that it should pass.

    Attributes
    ----------
    program
        Source of the program, written by a model.
    tests
        Source of the tests, from the data set: passed when it runs to its end.
    functions
        Names of the program's functions that the tests call.
    """

    program: str
    tests: str
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Whether all tests passed, and the reason in a few words."""

    passed: bool
    reason: str


def check_all(
    checks: Sequence[Check],
    limits: SandboxLimits | None = None,
    *,
    num_parallel: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Verdict]:
    """Check programs side by side.

    Parameters
    ----------
    checks
        Programs and tests.
    limits
        What each may use; None: the defaults of :class:`SandboxLimits`.
    num_parallel
        Checks at a time; each has two processes, which take turns. None: one per core.
    progress
        Called after each check with the number done and the number of all.

    Returns
    -------
    list of Verdict
        In the order of `checks`.

    Raises
    ------
    SandboxUnavailable
        When no sandbox works on this machine.
    RuntimeError
        When a sandbox that worked before did not start.
    """
    limits = limits or SandboxLimits()
    with ThreadPoolExecutor(num_parallel or len(os.sched_getaffinity(0))) as pool:
        futures = [pool.submit(check, one, limits) for one in checks]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress is not None:
                    progress(done, len(checks))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def check(asked: Check, limits: SandboxLimits) -> Verdict:
    """Run the tests of one problem against one program; see :func:`check_all`."""
    with contextlib.ExitStack() as stack:
        (asks, questions), (hears, answers), (verdict, writes) = (_pipe(stack) for _ in range(3))
        job = stack.enter_context(tempfile.TemporaryFile())
        job.write(json.dumps(asdict(asked)).encode())
        job.seek(0)
        program = start(
            "answer_calls",
            [limits.of_process()],
            stdin=asks.fileno(),
            stdout=answers.fileno(),
            file_mb=limits.file_mb,
        )
        stack.callback(end, program)
        passed_on = (job.fileno(), writes.fileno())
        tests = start(
            "run_tests",
            [limits.of_process(), str(limits.output_mb * MEBIBYTE), *map(str, passed_on)],
            stdin=hears.fileno(),
            stdout=questions.fileno(),
            keep=passed_on,
            file_mb=limits.file_mb,
        )
        stack.callback(end, tests)
        for ours in (asks, questions, hears, answers, writes):
            ours.close()  # who waits for us to write would wait for ever
        return _verdict(verdict.fileno(), limits)


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    read, write = os.pipe()
    return (
        stack.enter_context(os.fdopen(read, "rb", buffering=0)),
        stack.enter_context(os.fdopen(write, "wb", buffering=0)),
    )


def _verdict(descriptor: int, limits: SandboxLimits) -> Verdict:
    """Read the lines `started` and the verdict; RuntimeError when the program is not to blame."""
    started, _ = _read_line(descriptor, SECONDS_TO_START)
    if started != b"started\n":
        raise RuntimeError(
            "a sandbox did not start, though one did before; look for a machine short of memory "
            "or processes, and run this benchmark again"
        )
    line, in_time = _read_line(descriptor, limits.wall_seconds)
    if line.endswith(b"\n"):
        return Verdict(**json.loads(line))
    if not in_time:
        return Verdict(False, f"not finished after {limits.wall_seconds:g} s")
    return Verdict(False, "the tests were ended: out of memory or processor time")


def _read_line(descriptor: int, seconds: float) -> tuple[bytes, bool]:
    """One line, or what came of it, and whether it or the writer's end came in time."""
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_VERDICT_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return line, False
        part = os.read(descriptor, 1)
        if not part:
            break
        line += part
    return line, True
