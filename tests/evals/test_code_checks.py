"""Honest programs: right ones pass, wrong ones fail, whatever the values are made of."""

import math
from collections import Counter, OrderedDict, namedtuple
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.boxed.messages import Opaque, from_plain, to_plain
from evals.code_checks import Check, check, check_all
from evals.code_tasks import humaneval_check, mbpp_check
from evals.sandbox import SandboxLimits
from tests.evals.problems import PROBLEMS

LIMITS = SandboxLimits(cpu_seconds=20, wall_seconds=120)


def passes(program: str, tests: str) -> bool:
    return check(Check(program, tests, ("f",)), LIMITS).passed


def both(program: str, wrong: str, tests: str) -> None:
    right_verdict, wrong_verdict = check_all(
        [Check(source, tests, ("f",)) for source in (program, wrong)], LIMITS
    )
    assert right_verdict.passed, right_verdict.reason
    assert not wrong_verdict.passed


def test_all_right_solutions_pass_and_all_wrong_ones_fail_in_both_formats():
    calls = []
    checks = []
    for number, problem in enumerate(PROBLEMS):
        for body in (problem.right, problem.wrong):
            completion = problem.program(body).partition(":\n")[2]
            checks.append(humaneval_check(problem.humaneval(), completion))
            checks.append(mbpp_check(problem.mbpp(number), problem.program(body)))
    verdicts = check_all(checks, LIMITS, progress=lambda done, total: calls.append((done, total)))
    names = [problem.name for problem in PROBLEMS for _ in range(4)]
    expected = [True, True, False, False] * len(PROBLEMS)
    astray = [
        (name, verdict.reason)
        for name, verdict, right in zip(names, verdicts, expected, strict=True)
        if verdict.passed != right
    ]
    assert astray == []
    assert calls == [(done, len(checks)) for done in range(1, len(checks) + 1)]


def test_exceptions_that_tests_expect():
    tests = (
        "for given, kind in (('x', ValueError), (None, TypeError), ([], LookupError)):\n"
        "    try:\n        f(given)\n    except kind as error:\n        assert str(error)\n"
        "    else:\n        assert False\n"
        "try:\n    f(b'')\nexcept ValueError:\n    pass\nelse:\n    assert False\n"
    )
    program = (
        "class Own(IndexError): pass\n"
        "def f(x):\n    if x == []: raise Own('empty')\n    if x == b'': return b'\\xff'.decode()\n"
        "    return int(x)"
    )
    both(program, "def f(x): raise TypeError('always')", tests)


def test_generators_are_iterators_for_the_tests():
    tests = "g = f(3)\nassert next(g) == 0\nassert list(g) == [1, 2]\nassert f(3) != [0, 1, 2]\n"
    both("def f(n): yield from range(n)", "def f(n): return list(range(n))", tests)


def test_numbers_of_any_length_and_large_tests():
    tests = f"assert f(20_000) == 3 ** 20_000\nvalues = {list(range(400_000))}\n"
    tests += "assert f(values) == len(values)\n"
    program = "def f(x): return 3 ** x if isinstance(x, int) else len(x)"
    both(program, "def f(x): return 1", tests)


def test_a_program_may_look_at_what_programs_look_at():
    program = (
        "from __future__ import annotations\nimport sys, typing, re, heapq, hashlib, string\n"
        "if __name__ == '__main__': raise ValueError\n"
        "print('loading', file=sys.stderr)\n"
        "def f(x, *, k=0):\n    global calls\n    calls += 1\n    return x + k + calls\ncalls = 0\n"
    )
    assert passes(program, "assert f(1) == 2\nassert f(1, k=5) == 8\n")


def test_a_program_that_needs_more_than_it_may_have_fails_and_with_enough_passes():
    program, tests = "def f(n): return len(bytearray(n << 20))", "assert f(600) == 600 << 20"
    little = check(Check(program, tests, ("f",)), SandboxLimits(memory_mb=512))
    assert little.reason.startswith("MemoryError")
    assert passes(program, tests)


def test_reasons_say_what_happened():
    reasons = [
        check(Check(program, "assert f(1) == 2, 'no two'", ("f",)), LIMITS).reason
        for program in ("def f(x): return 3", "def f(x): return 1 / 0", "def f(x) 1", "")
    ]
    assert reasons[0] == "AssertionError: no two"
    assert reasons[1] == "ZeroDivisionError: division by zero"
    assert reasons[2].startswith("SyntaxError")
    assert reasons[3].startswith("AttributeError")


# ---------------------------------------------------------------- plain data

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
) | st.binary()
hashable = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6
)
values = st.recursive(
    hashable | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=12,
)


@given(values)
def test_plain_data_come_back_as_they_were(value):
    back = from_plain(to_plain(value))
    assert back == value
    assert type(back) is type(value)


def test_subclasses_come_back_as_what_they_extend():
    pair = namedtuple("pair", "a b")
    colour = IntEnum("colour", "RED")
    for value, plain in (
        (pair(1, 2), (1, 2)),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        ({colour.RED: 1}, {1: 1}),
        (bytearray(b"a"), bytearray(b"a")),
        (range(2, 9, 3), range(2, 9, 3)),
    ):
        assert from_plain(to_plain(value)) == plain
    assert list(from_plain(to_plain(map(str, [1, 2])))) == ["1", "2"]
    assert math.isnan(from_plain(to_plain(math.nan)))


@pytest.mark.parametrize("value", [object(), len, np.zeros(3), Counter, NotImplemented, ...])
def test_what_is_no_data_is_true_and_equal_to_nothing(value):
    back = from_plain(to_plain(value))
    assert isinstance(back, Opaque)
    assert back
    assert back != from_plain(to_plain(value))
