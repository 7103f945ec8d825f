"""Lay a few fields over a study file: the same study smaller, elsewhere, or changed in one thing.

An overlay is YAML of the same shape that holds only what differs. Mappings are merged; lists whose
entries have a `name` are merged by it; anything else replaces what was there. A study file that
says `extends: <another study>` overrides that one in the same way.
"""

import difflib
from typing import Any


class OverlayError(ValueError):
    """An overlay that names what the study does not have."""


def lay_over(study: Any, overlay: Any, at: str = "") -> Any:
    """The study's plain data with the overlay's put over them; neither is changed.

    Raises
    ------
    OverlayError
        When an overlay's list names an entry that the study's list lacks.

    Examples
    --------
    >>> lay_over({"a": 1, "list": [{"name": "x", "n": 1}]}, {"list": [{"name": "x", "n": 2}]})
    {'a': 1, 'list': [{'name': 'x', 'n': 2}]}
    """
    if isinstance(study, dict) and isinstance(overlay, dict):
        merged = {
            key: lay_over(study[key], overlay[key], f"{at}.{key}".lstrip("."))
            if key in study
            else overlay[key]
            for key in overlay
        }
        return {**study, **merged}
    if _named(study) and _named(overlay):
        return _by_name(study, overlay, at)
    return overlay


def _named(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in value)
    )


def _by_name(study: list[Any], overlay: list[Any], at: str) -> list[Any]:
    changes = {entry["name"]: entry for entry in overlay}
    known = [entry["name"] for entry in study]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OverlayError(
                f"{at}: the study has no entry named {name!r} ({', '.join(known)}){hint} An "
                "overlay changes entries; to replace the list, write another study file"
            )
    return [
        lay_over(entry, changes[entry["name"]], f"{at}.{entry['name']}")
        if entry["name"] in changes
        else entry
        for entry in study
    ]
