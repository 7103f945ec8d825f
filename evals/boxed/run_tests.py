"""Run the tests of a problem; the functions under test live in another sandbox.

This process sees the expected answers and decides. It runs the tests of the data set, never the
program: what the program says arrives as plain data (`messages`), so there is nothing in here that
it could patch, read or call.
"""

import builtins
import json
import os
from collections.abc import Callable
from typing import Any

from evals.boxed.limits import limit_self
from evals.boxed.messages import Broken, Channel, from_plain, to_plain


def main(limits: str, max_answer_bytes: str, job: str, verdict: str) -> None:
    """Read a job, run its tests, write the verdict.

    Parameters
    ----------
    limits
        Limits of this process, JSON.
    max_answer_bytes
        What the program may answer in all.
    job
        Descriptor to read the job from: JSON with `program`, `tests` and `functions`.
    verdict
        Descriptor to write to: the line `started` once both sandboxes are up, then one of JSON
        with `passed` and `reason`.
    """
    limit_self(**json.loads(limits), keep=(int(job), int(verdict)))
    with os.fdopen(int(job), "rb") as file:
        asked = json.load(file)
    channel = Channel.instead_of_standard_streams(int(max_answer_bytes))
    with os.fdopen(int(verdict), "wb", buffering=0) as out:
        channel.receive()  # the sandbox of the program is up
        out.write(b"started\n")
        passed, reason = _verdict(channel, asked)
        out.write(json.dumps({"passed": passed, "reason": reason[:500]}).encode() + b"\n")


def _verdict(channel: Channel, asked: dict[str, Any]) -> tuple[bool, str]:
    try:
        channel.send(asked["program"])
        _value(channel.receive())
        _forbid_empty_comparisons(asked["tests"])
        broken: list[Broken] = []
        names = {name: _remote(channel, name, broken) for name in asked["functions"]}
        exec(compile(asked["tests"], "<tests>", "exec", dont_inherit=True), names)
        if broken:  # and the tests caught it, as an error that they expect
            raise broken[0]
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}"
    return True, "all tests passed"


def _remote(channel: Channel, name: str, broken: list[Broken]) -> Callable[..., Any]:
    """A function that asks the program. Arguments go by value: the tests' own stay as they are."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            channel.send([name, to_plain(list(args)), to_plain(kwargs)])
            return _value(channel.receive())
        except Broken as error:
            broken.append(error)
            raise

    return call


def _value(answer: Any) -> Any:
    """What the program answered: its value, or its exception raised here."""
    try:
        if "raised" not in answer:
            return from_plain(answer["value"])
        error = _exception(*answer["raised"])
    except Exception:
        raise Broken("the program answered with something that is no message") from None
    raise error


def _exception(names: list[str], message: str) -> BaseException:
    """The nearest built-in exception of these names that a message is enough for."""
    for name in names:
        kind = getattr(builtins, name)
        if not issubclass(kind, Exception):
            return Broken(f"the program ended: {name}: {message}")
        if issubclass(kind, StopIteration | StopAsyncIteration):
            kind = RuntimeError  # raised here it could end a loop of the tests, as if all went well
        if not issubclass(kind, UnicodeDecodeError | UnicodeEncodeError | UnicodeTranslateError):
            return kind(message)
    raise ValueError(names)


def _forbid_empty_comparisons(tests: str) -> None:
    """Let numbers be close only in equal shapes: NumPy finds an empty list close to any number."""
    if "allclose" not in tests:
        return  # the import of numpy takes longer than most tests
    import numpy

    numpy.allclose = _in_equal_shapes(numpy.allclose)
    if "assert_allclose" in tests:
        numpy.testing.assert_allclose = _in_equal_shapes(numpy.testing.assert_allclose)


def _in_equal_shapes(compare: Callable[..., Any]) -> Callable[..., Any]:
    from numpy import shape

    def call(out: Any, expected: Any, *args: Any, **kwargs: Any) -> Any:
        if shape(out) != shape(expected):
            raise AssertionError(f"shape {shape(out)}, expected {shape(expected)}")
        return compare(out, expected, *args, **kwargs)

    return call
