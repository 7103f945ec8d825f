"""What a measure is: one number with its unit, its range, its source and the form of its formula.

Each module of this room lists the measures it defines as `MEASURES`; :mod:`metrics.registry` joins
them, and `docs/measures.md` is generated from there.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Family = Literal["paper", "field", "candidate", "baseline"]


@dataclass(frozen=True)
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
        Whether it is held against accuracy (then it is a monitor).
    """

    measure: str
    title: str
    unit: str
    low: float | None
    high: float | None
    expected_direction: int
    family: Family
    source: str
    formula: str
    monitored: bool = True

    def row(self) -> dict[str, Any]:
        """As a row of the table `measures`."""
        return asdict(self)
