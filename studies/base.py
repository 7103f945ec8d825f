"""What every part of a study is built from: the frozen base and the shared checks."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
TOKEN_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
CHECKPOINT_NAME = re.compile(
    r"^step(?P<step>\d+)(?:-tokens(?P<tokens>\d+(?:\.\d+)?)(?P<unit>[KMBT]?))?$"
)


class Frozen(BaseModel):
    """Base of every part: immutable, no unknown keys, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def checkpoint_name(step: int, tokens_seen: int) -> str:
    """Name of a checkpoint, as public series name theirs: `step150-tokens240K`."""
    for unit in ("T", "B", "M", "K"):
        if tokens_seen >= TOKEN_UNITS[unit] and not tokens_seen * 1000 % TOKEN_UNITS[unit]:
            return (
                f"step{step}-tokens{tokens_seen / TOKEN_UNITS[unit]:.3f}".rstrip("0").rstrip(".")
                + unit
            )
    return f"step{step}-tokens{tokens_seen}"


def parse_checkpoint_name(name: str) -> tuple[int, int | None] | None:
    """Step and tokens seen of a checkpoint's name; None when it is not one.

    >>> parse_checkpoint_name("step5000-tokens20B")
    (5000, 20000000000)
    """
    match = CHECKPOINT_NAME.match(name)
    if match is None:
        return None
    tokens = match["tokens"]
    return int(match["step"]), None if tokens is None else round(
        float(tokens) * TOKEN_UNITS[match["unit"]]
    )


def strictly_rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    """Pass on checkpoint steps that are distinct and rise, refuse others."""
    if any(step < 0 for step in steps):
        raise ValueError("steps must be 0 or more")
    unique("checkpoint step", [str(step) for step in steps])
    if list(steps) != sorted(steps):
        raise ValueError("steps must rise")
    return steps


def unique(what: str, names: list[str]) -> None:
    """Refuse a name that is given twice."""
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"{what} {', '.join(doubled)} is given more than once")
