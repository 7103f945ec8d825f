"""What every part of a study is built from: the frozen base and the shared checks."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every seeded library takes
TOKEN_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
RESERVED_NAMES = (  # folders in the data root
    *("artifacts", "home", "hub", "locks", "logs", "mlartifacts"),
    *("prefect", "secrets", "seen", "uses"),
)
CHECKPOINT_NAME = re.compile(
    r"^(?:step|checkpoint-)(?P<step>\d+)(?:-tokens(?P<tokens>\d+(?:\.\d+)?)(?P<unit>[KMBT]?))?$"
)


def _free_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(
            "a study's results lie in a folder of its name inside the data root, where "
            f"{', '.join(RESERVED_NAMES)} are taken; choose another name"
        )
    return name


def _auto_or_number(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError:  # one message instead of one for each part of the union
        raise ValueError("expected auto or a number above 0") from None


def _auto_or_integer(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError:
        raise ValueError("expected auto or an integer above 0") from None


StudyName = Annotated[Slug, AfterValidator(_free_name)]
AutoOrPositive = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0.0)], WrapValidator(_auto_or_number)
]
AutoOrWhole = Annotated[
    Literal["auto"] | Annotated[int, Field(gt=0)], WrapValidator(_auto_or_integer)
]


class NothingYet(ValueError):
    """A source that holds no checkpoint a study could take, perhaps because none is written yet."""


class Frozen(BaseModel):
    """Base of every part: immutable, no unknown keys, finite numbers, defaults checked too."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _fits_a_machine_number(cls, value: Any) -> Any:
        # Python's integers have no end, but the arithmetic with floats further on does.
        if isinstance(value, int) and value.bit_length() > 63:
            raise ValueError("the number must be below 2**63")
        return value


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
    >>> parse_checkpoint_name("checkpoint-500")  # as transformers' Trainer calls them
    (500, None)
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
