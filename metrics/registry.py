"""Every measure by name: what a number in the warehouse means.

The definitions are data, `measures.yaml` beside this module; `docs/measures.md` follows from them
(`make docs`).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Literal

import yaml


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of a checkpoint and domain.

    Attributes
    ----------
    measure
        Name, as in the warehouse.
    title
        Name in plain words.
    unit
        Unit of its values.
    low, high
        Range of its values; None where there is no bound.
    expected_direction
        Sign of its correlation with accuracy that its source (or, for ours, its derivation) claims:
        -1, 0 (none claimed), +1.
    family
        `paper`: arXiv 2506.21551 itself; `field`: other published routing measures; `candidate`:
        ours, tried as monitors; `baseline`: losses and controls.
    source
        Where it is defined: arXiv id and section, or "ours".
    formula
        How it is computed, in one line; which variant where several are in use.
    monitored
        Whether it is compared with accuracy (then it is a monitor).
    """

    measure: str
    title: str
    unit: str
    low: float | None = None
    high: float | None = None
    expected_direction: int = 0
    family: Literal["paper", "field", "candidate", "baseline"]
    source: str
    formula: str
    monitored: bool = True

    def row(self) -> dict[str, Any]:
        """As a row of the table `measures`."""
        return asdict(self)


def by_name(measures: Iterable[Measure]) -> dict[str, Measure]:
    """Measures by name, in order; raises ValueError where a name is given twice."""
    found: dict[str, Measure] = {}
    for measure in measures:
        if measure.measure in found:
            raise ValueError(f"measure {measure.measure!r} is defined twice")
        found[measure.measure] = measure
    return found


REGISTRY = by_name(
    Measure(**entry)
    for entry in yaml.safe_load(files("metrics").joinpath("measures.yaml").read_text("utf-8"))
)

MONITORS = tuple(one for one in REGISTRY.values() if one.monitored)
"""Every measure that is compared with accuracy."""


def monitor_rows() -> list[dict[str, Any]]:
    """The registry as rows of the table `monitors`."""
    rows = (one.row() for one in REGISTRY.values())
    return [{"monitor": row.pop("measure"), **row} for row in rows]


def measure_row(
    domain: str,
    measure: str,
    value: float | None,
    num_tokens: int,
    *,
    baseline: float | None = None,
    kind: str | None = None,
    layer: int | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    """A row of the table `routing_measures`; `kind` names the baseline, if there is one."""
    return {
        "domain": domain,
        "layer": layer,
        "measure": measure,
        "value": value,
        "baseline": baseline,
        "baseline_kind": None if baseline is None else kind,
        "num_tokens": num_tokens,
        "note": note,
    }


_PAGE = """# Measures

Every number that grokpath measures at a checkpoint, generated from the registry \
(`metrics/measures.yaml`) by `make docs`. *Monitor* says whether it is held against accuracy; \
*sign* is the direction of its correlation with accuracy that its source claims or its derivation \
suggests (· is none).
"""
_TABLE = """
## {}

| measure | what | unit | range | sign | monitor | formula and variant | source |
|---|---|---|---|---|---|---|---|
"""
_FAMILIES = {
    "paper": "The paper's own",
    "field": "Of the field",
    "candidate": "Candidates",
    "baseline": "Baselines and controls",
}


def markdown() -> str:
    """The registry as the page docs/measures.md."""
    page = _PAGE
    for family, title in _FAMILIES.items():
        of_family = (one for one in REGISTRY.values() if one.family == family)
        page += _TABLE.format(title) + "".join(_line(one) for one in of_family)
    return page


def _line(one: Measure) -> str:
    ends = ("" if end is None else f"{end:g}" for end in (one.low, one.high))
    cells = (
        f"`{one.measure}`",
        one.title,
        one.unit,
        " to ".join(ends).strip() or "any",
        {-1: "−", 0: "·", 1: "+"}[one.expected_direction],
        "yes" if one.monitored else "no",
        one.formula,
        one.source,
    )
    return "| " + " | ".join(cell.replace("|", "∣") for cell in cells) + " |\n"
