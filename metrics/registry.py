"""Every measure there is, by name: the one place that says what a number in the warehouse means.

A new module with measures is one import and one entry here; `docs/measures.md` follows
(`make docs`).
"""

from typing import Any

from metrics import (
    coactivation,
    load,
    margins,
    nulls,
    online,
    paper,
    path_entropy,
    saturation,
    signature,
    specialisation,
    structure,
)
from metrics.measure import Measure

MODULES = (
    paper,
    load,
    margins,
    coactivation,
    specialisation,
    saturation,
    signature,
    path_entropy,
    nulls,
    structure,
    online,
)


def joined(*groups: tuple[Measure, ...]) -> dict[str, Measure]:
    """Measures by name, in order; a name given twice is refused."""
    found: dict[str, Measure] = {}
    for measure in (one for group in groups for one in group):
        if measure.measure in found:
            raise ValueError(f"measure {measure.measure!r} is defined twice")
        found[measure.measure] = measure
    return found


REGISTRY = joined(*(module.MEASURES for module in MODULES))


def monitor_rows() -> list[dict[str, Any]]:
    """The registry as rows of the table `monitors`."""
    rows = []
    for one in REGISTRY.values():
        row = one.row()
        rows.append({"monitor": row.pop("measure"), **row})
    return rows


def markdown() -> str:
    """The registry as the page docs/measures.md."""
    families = {
        "paper": "The paper's own",
        "field": "Of the field",
        "candidate": "Candidates",
        "baseline": "Baselines and controls",
    }
    lines = [
        "# Measures",
        "",
        "Every number that grokpath measures at a checkpoint, generated from the registry "
        "(`metrics/registry.py`) by `make docs`. *Monitor* says whether it is held against "
        "accuracy; *sign* is the direction of its correlation with accuracy that its source claims "
        "or its derivation suggests (· is none).",
        "",
    ]
    for family, title in families.items():
        lines += [
            f"## {title}",
            "",
            "| measure | what | unit | range | sign | monitor | formula and variant | source |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for one in REGISTRY.values():
            if one.family == family:
                sign = {-1: "−", 0: "·", 1: "+"}[one.expected_direction]
                cells = (
                    f"`{one.measure}`",
                    one.title,
                    one.unit,
                    _range(one),
                    sign,
                    "yes" if one.monitored else "no",
                    one.formula,
                    one.source,
                )
                lines.append("| " + " | ".join(cell.replace("|", "∣") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _range(measure: Measure) -> str:
    ends = ("" if end is None else f"{end:g}" for end in (measure.low, measure.high))
    return " to ".join(ends).strip() or "any"
