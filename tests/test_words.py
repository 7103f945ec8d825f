"""One word per thing: the field's and the libraries' words, in code, help, messages and docs.

A word on this list has a plain counterpart, or stood for several things at once.
"""

import re
from pathlib import Path

import pytest

from evals.checks import CHECKER

HOUSE = Path(__file__).parent.parent
INSTEAD = {
    "told": "reported, logged, printed, known",
    "said": "reported, logged",
    "asked": "requested, configured",
    "kept": "saved, stored, cached",
    "made": "computed, built, created",
    "whole": "complete, undamaged; integer",
    "leftover": "draft, remains",
    "mended": "fixed",
    "brought": "downloaded",
    "let go": "evicted, deleted",
    "lets go": "evicts, deletes",
    "hangs on": "depends on",
    "laid over": "overrides",
}
ROOMS = ("flows", "tasks", "metrics", "models", "evals", "hub", "store", "reports", "studies",
         "deployments")  # fmt: skip
KINDS = (".py", ".yaml", ".sql", ".html")
ALLOWED = ("made_from", "it is said that it", "they'd said", "told.json")
"""A key of a file that scoring leaves in a draft, a phrase of verdicts in warehouses, a text that
tokenizers are compared on, a file of before."""
IN_PROSE = ("told", "leftover", "mended", "brought", "let go", "lets go", "hangs on", "laid over")
"""Of the list, what pages may not say either; the others are plain English in a sentence."""


def any_of(words):
    joined = "|".join(words).replace(" ", r"\s+")
    return re.compile(rf"(?<![a-zA-Z])(?:{joined})s?(?![a-zA-Z])", re.IGNORECASE)


def files():
    found = [HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", *(HOUSE / "docs").glob("*.md")]
    for room in ROOMS:
        found += [path for path in (HOUSE / room).rglob("*") if path.suffix in KINDS]
    # These are part of a benchmark's identity: a changed word would have it scored again.
    evals = HOUSE / "evals"
    identity = {path for pattern in CHECKER for path in evals.glob(pattern)}
    found = [p for p in found if p not in identity and evals / "tasks" not in p.parents]
    return sorted(path.relative_to(HOUSE).as_posix() for path in found)


@pytest.mark.parametrize("room", [*ROOMS, "docs"])
def test_words_are_those_of_the_field(room):
    words, found = any_of(IN_PROSE if room == "docs" else INSTEAD), []
    for name in files():
        if name.partition("/")[0] != room and not (room == "docs" and "/" not in name):
            continue
        text = (HOUSE / name).read_text(encoding="utf-8")
        for allowed in ALLOWED:
            text = text.replace(allowed, "")
        for number, line in enumerate(text.splitlines(), 1):
            if word := words.search(line):
                instead = INSTEAD.get(word[0].lower(), "")
                found.append(f"{name}:{number}: {word[0]!r} ({instead}): {line.strip()[:80]}")
    assert not found, "\n" + "\n".join(found)
