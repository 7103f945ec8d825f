"""What a study's rows may count for: where there is something to follow, and which tests count.

A monitor earns its keep twice: it follows accuracy in the detrended test, and it changes otherwise
than in a control that cannot generalize. What the test also finds in a control needs no
generalization, so it does not count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from reports.figures import Names, Row

# The source restricts its correlations to the checkpoints after accuracy starts to rise
# (arXiv 2506.21551, sec. 4.3); so do the sentences. The table shows both windows.
WINDOW = "after_onset"
# Accuracy "rises" in a domain when it ends at least this far above where it began, and above the
# best that a control reaches there without generalizing.
RISE = 0.10

# Verdicts as metrics/separation.py words them.
APART, NOT_APART = "differs in these two runs", "no difference shown"
FIGURES = "moves further in the control"
STILL, AGAINST = "does not move in main", "moves against expectation"
CANNOT_TELL = "cannot tell"

# Outcomes of the detrended test.
FOLLOWS, OPPOSITE, MOVES = "follows", "opposite", "moves"
ECHO, HINT, NO, UNTESTED = "echo", "hint", "no", "untested"


def rising(glance: Sequence[Row], controls: Mapping[str, Sequence[str]]) -> set[tuple[str, str]]:
    """The (series, domain) in which accuracy ends `RISE` above its start and above its controls.

    Parameters
    ----------
    glance
        Rows with series, domain, accuracy_first, accuracy_last and accuracy_max in [0, 1], or
        None where no accuracy was measured.
    controls
        Controls of each main series; others have none.
    """
    scored = {
        (row["series"], row["domain"]): row for row in glance if row["accuracy_last"] is not None
    }
    return {
        (series, domain)
        for (series, domain), row in scored.items()
        if series in controls
        and row["accuracy_last"]
        - max(
            [row["accuracy_first"]]
            + [
                scored[control, domain]["accuracy_max"]
                for control in controls[series]
                if (control, domain) in scored
            ]
        )
        >= RISE
    }


def corrected_p(row: Row) -> float | None:
    """The p-value that decides: Holm's where there is one."""
    p: float | None = row["difference_p"] if row["holm_p"] is None else row["holm_p"]
    return p


@dataclass(frozen=True)
class Evidence:
    """The rows that the report's sentences follow from.

    Attributes
    ----------
    monitors, correlations, separation
        Rows of the tables of these names.
    risen
        (series, domain) pairs in which accuracy rises; elsewhere there is nothing to follow.
    names
        What things are called, and the role of each series.
    significance
        Level of the verdicts, in (0, 1).
    power
        Rows of the table `power`.
    controls
        Controls of each main series.
    """

    monitors: Sequence[Row]
    correlations: Sequence[Row]
    separation: Sequence[Row]
    risen: set[tuple[str, str]]
    names: Names
    significance: float
    power: Sequence[Row] = ()
    controls: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def directions(self) -> dict[str, int]:
        """The sign of the correlation with accuracy that each monitor claims; 0 claims nothing."""
        return {row["monitor"]: row["expected_direction"] for row in self.monitors}

    @cached_property
    def echoes(self) -> set[tuple[str, str, str]]:
        """The (series, monitor, domain) that the test finds in a control, in either window."""
        # Before correction, which is stricter with the main series: Holm's p is never smaller.
        return {
            (row["series"], row["monitor"], row["domain"])
            for row in self.correlations
            if self.names.roles.get(row["series"]) == "control"
            and row["difference_p"] is not None
            and row["difference_p"] <= self.significance
        }

    def tests(self, monitor: str | None = None) -> list[Row]:
        """The tests that count, of one monitor or all: where accuracy rises, after its onset."""
        return [
            row
            for row in self.correlations
            if row["window"] == WINDOW
            and (row["series"], row["domain"]) in self.risen
            and monitor in (None, row["monitor"])
        ]

    def outcome(self, row: Row) -> str:
        """What the detrended test says of one row of `correlations` of a main series.

        Returns
        -------
        str
            `follows`, `opposite` (against the claimed sign), `moves` (no sign is claimed), `echo`
            (also found in a control of its own), `hint` (only before Holm's correction), `no`, or
            `untested` (the test abstains).
        """
        # The test goes by ranks, so the sign of their correlation is the one that counts.
        p, rho = corrected_p(row), row["difference_spearman"]
        if row["difference_p"] is None or p is None or rho is None:
            return UNTESTED
        if p > self.significance:
            return HINT if row["difference_p"] <= self.significance else NO
        its_controls = self.controls.get(row["series"], ())
        if any((one, row["monitor"], row["domain"]) in self.echoes for one in its_controls):
            return ECHO
        direction = self.directions.get(row["monitor"], 0)
        if direction == 0:
            return MOVES
        return FOLLOWS if rho * direction > 0 else OPPOSITE

    def echoed(self, row: Row) -> bool:
        """Whether a row of a main series is significant and does not count."""
        return self.names.roles.get(row["series"]) == "main" and self.outcome(row) == ECHO


def by_outcome(evidence: Evidence, tests: Iterable[Row]) -> dict[str, list[Row]]:
    """The tests sorted by their outcome."""
    found: dict[str, list[Row]] = {}
    for row in tests:
        found.setdefault(evidence.outcome(row), []).append(row)
    return found
