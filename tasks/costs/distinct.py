"""Runs of a plan that are the same, told before they have an identity."""

import hashlib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from store.artifacts import Artifact, Checkpoint, Tokenizer
from store.identity import Label, canonical_json
from studies.settings import Runtime
from tasks.plan import Planned


def distinct(entries: Iterable[Planned]) -> list[Planned]:
    """Each run once, in order: two with the same inputs would make one artifact."""
    known: dict[int, str] = {}
    found: dict[str, Planned] = {}
    for entry in entries:
        found.setdefault(_digest(entry, known), entry)
    return list(found.values())


def _digest(entry: Planned, known: dict[int, str]) -> str:
    """What stands for a planned run; `known` are those told before, by `id`."""
    if id(entry) not in known:
        text = canonical_json([entry.step_name, _plain(entry.inputs, known)])
        known[id(entry)] = hashlib.sha256(text.encode()).hexdigest()
    return known[id(entry)]


def _plain(value: Any, known: dict[int, str]) -> Any:
    """JSON that equal inputs share, whether they are there or planned."""
    if isinstance(value, Planned):
        return _digest(value, known)
    if isinstance(value, Artifact):
        return value.digest
    if isinstance(value, Checkpoint):
        return value.digest or [value.repository, value.series, value.revision]
    if isinstance(value, Tokenizer):
        return value.digest or value.location
    if isinstance(value, Runtime | Label):
        return None
    if isinstance(value, BaseModel):  # paths in it as they are: files may be large
        return [type(value).__name__, value.model_dump(mode="json")]
    if isinstance(value, dict):
        return {name: _plain(item, known) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, known) for item in value]
    return value
