# ruff: noqa: E501 - programs are easier to read in fewer lines
"""Problems of our own in the formats of HumanEval+ and MBPP+, with right and wrong solutions."""

from dataclasses import dataclass
from textwrap import indent
from typing import Any

COMPARE = """
import numpy as np

def all_floats(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and all(map(all_floats, x)))

def assertion(out, exp, atol):
    same = out == exp
    if atol == 0 and all_floats(exp):
        atol = 1e-6
    if not same and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert same, f"out: {out}, exp: {exp}"
"""


@dataclass(frozen=True)
class Problem:
    """One function to write: its arguments, what it should do, right and wrong bodies, cases."""

    name: str
    arguments: str
    asked: str
    right: str
    wrong: str
    inputs: list[Any]
    results: list[Any]
    atol: float = 0

    @property
    def prompt(self) -> str:
        """Signature and docstring, with a helper's import above."""
        head = f'import math\n\n\ndef {self.name}({self.arguments}):\n    """{self.asked}\n'
        example = f">>> {self.name}(*{self.inputs[0]!r})\n    {self.results[0]!r}"
        return f'{head}\n    {example}\n    """\n'

    def humaneval(self) -> dict[str, Any]:
        """The problem with the columns of evalplus/humanevalplus."""
        body = self._cases("candidate")
        return {
            "task_id": f"Own/{self.name}",
            "prompt": self.prompt,
            "canonical_solution": indent(self.right, "    ") + "\n",
            "entry_point": self.name,
            "test": f"{COMPARE}\n\ndef check(candidate):\n{indent(body, '    ')}\n",
        }

    def mbpp(self, number: int) -> dict[str, Any]:
        """The problem with the columns of evalplus/mbppplus."""
        examples = [
            f"assert {self.name}(*{given!r}) == {result!r}"
            for given, result in zip(self.inputs, self.results, strict=True)
        ]
        return {
            "task_id": number,
            "code": self.program(self.right),
            "prompt": f"Write a function to {self.asked.lower()}",
            "source_file": "own",
            "test_imports": ["import math"],
            "test_list": examples[:3],
            "test": f"{COMPARE}\n{self._cases(self.name)}\n",
        }

    def _cases(self, function: str) -> str:
        loop = f"for inp, exp in zip(inputs, results):\n    assertion({function}(*inp), exp, {self.atol})"
        return f"inputs = {self.inputs!r}\nresults = {self.results!r}\n{loop}"

    def program(self, body: str) -> str:
        """A whole program with this body."""
        return f"import math\n\ndef {self.name}({self.arguments}):\n{indent(body, '    ')}\n"


# fmt: off
PROBLEMS = [
    Problem(
        "mean_gap", "values", "Mean distance of neighbours in a list of numbers.",
        "gaps = [abs(b - a) for a, b in zip(values, values[1:])]\nreturn sum(gaps) / len(gaps)",
        "return 0.5",
        [[[1, 2, 4]], [[0.1, 0.2, 0.4]], [[5, 5]]], [1.5, 0.15, 0.0],
    ),
    Problem(
        "halves", "x, times", "Halve a number some times, all values as a list.",
        "out = []\nfor _ in range(times):\n    x = x * 0.5\n    out.append(x)\nreturn out",
        "return []",
        [[1.0, 1], [3.0, 2], [0.1, 3]], [[0.5], [1.5, 0.75], [0.05, 0.025, 0.0125]],
    ),
    Problem(
        "split_sign", "values", "Negative and other numbers of a list, as two tuples.",
        "return tuple(v for v in values if v < 0), tuple(v for v in values if v >= 0)",
        "return [v for v in values if v < 0], [v for v in values if v >= 0]",
        [[[1, -2, 0]], [[]]], [((-2,), (1, 0)), ((), ())],
    ),
    Problem(
        "common_letters", "a, b", "Letters that two words share, as a set.",
        "return set(a) & set(b)", "return set(a) | set(b)",
        [["größe", "öl"], ["abc", "xyz"], ["aa", "a"]], [{"ö"}, set(), {"a"}],
    ),
    Problem(
        "tally", "words", "How often each word occurs, as a dict.",
        "from collections import Counter\nreturn Counter(words)",
        "return {w: 1 for w in words}",
        [[["b", "a", "b"]], [["日本", "日本"]]], [{"a": 1, "b": 2}, {"日本": 2}],
    ),
    Problem(
        "first_even", "values", "The first even number of a list, None if there is none.",
        "for v in values:\n    if v % 2 == 0:\n        return v", "return values[0]",
        [[[1, 3]], [[3, 8, 2]]], [None, 8],
    ),
    Problem(
        "emoji_reversed", "text", "A text backwards.",
        "return text[::-1]", "return text",
        [["añ😀"], ["line\nbreak\t\"q\"\\"], ["\ud800x"]], ["😀ña", "\\\"q\"\tkaerb\nenil", "x\ud800"],
    ),
    Problem(
        "big_power", "n", "Three to the power n.",
        "return 3 ** n", "return 3.0 ** min(n, 600)",
        [[2], [200], [8000]], [9, 3**200, 3**8000],
    ),
    Problem(
        "frozen_pairs", "values", "Pairs of different values, as a set of frozensets.",
        "from itertools import combinations\n"
        "return {frozenset(p) for p in combinations(set(values), 2)}",
        "return set()",
        [[[1, 2, 1]]], [{frozenset({1, 2})}],
    ),
    Problem(
        "turned", "z", "A complex number turned by a quarter.",
        "return z * 1j", "return z",
        [[2 + 0j], [1 - 1j]], [2j, 1 + 1j],
    ),
    Problem(
        "sorted_copy", "values", "A list in ascending order.",
        "values.sort()\nreturn values", "values.sort()",
        [[[3, 1, 2]], [[2, 1]]], [[1, 2, 3], [1, 2]],
    ),
    Problem(
        "drained", "values", "Sum of a list.",
        "total = 0\nwhile values:\n    total += values.pop()\nreturn total",
        "values.clear()\nreturn 0",
        [[[1, 2, 3]], [[4]]], [6, 4],
    ),
    Problem(
        "depth", "tree", "How deep lists are nested.",
        "return 1 + max(map(depth, tree), default=0) if isinstance(tree, list) else 0",
        "return 1",
        [[[1, [2, [3]]]], [[]], [[[[[[[]]]]]]]], [3, 1, 6],
    ),
    Problem(
        "primes_below", "n", "All primes below n.",
        "def stream():\n    for k in range(2, n):\n"
        "        if all(k % d for d in range(2, int(k ** 0.5) + 1)):\n            yield k\n"
        "return list(stream())",
        "return list(range(2, n))",
        [[2], [20]], [[], [2, 3, 5, 7, 11, 13, 17, 19]],
    ),
    Problem(
        "prefix_sums", "values", "Running sums of a long list.",
        "from itertools import accumulate\nreturn list(accumulate(values))", "return values",
        [[list(range(3))], [[1] * 50_000]], [[0, 1, 3], list(range(1, 50_001))],
    ),
    Problem(
        "is_leap", "year", "Is a year a leap year?",
        "return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)", "return year % 4 == 0",
        [[2000], [1900], [2024], [2023]], [True, False, True, False],
    ),
    Problem(
        "inverse", "table", "A dict with keys and values exchanged, keys of any kind.",
        "return {v: k for k, v in table.items()}", "return table",
        [[{1: (2, "a"), None: 3.5}]], [{(2, "a"): 1, 3.5: None}],
    ),
    Problem(
        "octets", "data", "Bytes in reverse.",
        "return bytes(reversed(data))", "return data",
        [[b"\x00\xffab"]], [b"ba\xff\x00"],
    ),
    Problem(
        "limits_of", "values", "Least and greatest of numbers, infinite for none.",
        "return min(values, default=math.inf), max(values, default=-math.inf)", "return 0, 0",
        [[[2, 1]], [[-1]]], [(1, 2), (-1, -1)],
    ),
    Problem(
        "root_of", "a", "Square root by bisection, six digits.",
        "low, high = 0.0, max(1.0, a)\nwhile high - low > 1e-9:\n    mid = (low + high) / 2\n"
        "    low, high = (mid, high) if mid * mid < a else (low, mid)\nreturn low",
        "return a / 2",
        [[2.0], [9.0], [0.25]], [2**0.5, 3.0, 0.5], 1e-6,
    ),
    Problem(
        "vector_norm", "values", "Length of a vector, with NumPy.",
        "import numpy as np\nreturn np.linalg.norm(np.array(values))", "return sum(values)",
        [[[3.0, 4.0]], [[1.0]]], [5.0, 1.0],
    ),
    Problem(
        "point_class", "x, y", "Distance from the origin, by a class.",
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: 'float'\n    y: 'float'\n"
        "    def norm(self):\n        return math.hypot(self.x, self.y)\nreturn Point(x, y).norm()",
        "return x + y",
        [[3, 4], [0, 2]], [5.0, 2.0],
    ),
]
