"""What each monitor did, in plain sentences; every sentence follows from rows of the warehouse.

Nothing here knows how a study turned out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.evidence import (
    AGAINST,
    APART,
    CANNOT_TELL,
    ECHO,
    FIGURES,
    FOLLOWS,
    HINT,
    MOVES,
    NOT_APART,
    OPPOSITE,
    STILL,
    UNTESTED,
    Evidence,
    by_outcome,
    corrected_p,
)
from reports.figures import Names, Row
from reports.words import listed, minus, p_value


@dataclass(frozen=True)
class Finding:
    """What one monitor did: its name and two plain sentences.

    `chosen`: it stands here because it did best on these very data.
    """

    title: str
    follows: str
    separates: str
    chosen: bool = False


def findings(evidence: Evidence) -> list[Finding]:
    """One finding per monitor that was tested or compared with a control."""
    found = []
    tested = {row["monitor"] for row in evidence.correlations}
    for monitor in evidence.monitors:
        name = monitor["monitor"]
        pairs = [row for row in evidence.separation if row["monitor"] == name]
        if pairs or name in tested:
            follows = _follows(name, evidence)
            separates = _separates(pairs, evidence.names)
            chosen = monitor.get("family", "paper") != "paper"
            found.append(Finding(monitor["title"], follows, separates, chosen))
    return found


def _follows(monitor: str, evidence: Evidence) -> str:
    tests, names = evidence.tests(monitor), evidence.names
    if not tests:
        return "Accuracy rises nowhere in the main series, so there is nothing to follow."
    outcomes = by_outcome(evidence, tests)
    untested = outcomes.pop(UNTESTED, [])
    if not outcomes:
        return f"Not known: the test abstains in {_every(tests)}."

    def places(outcome: str, *, numbers: bool = True) -> str:
        return listed([_case(row, tests, names, numbers=numbers) for row in outcomes[outcome]])

    claims = evidence.directions.get(monitor, 0) != 0
    clauses = [] if claims else ["Makes no claim."]
    if FOLLOWS in outcomes:
        clauses.append(f"Yes in {len(outcomes[FOLLOWS])} of {_cases(tests)}: {places(FOLLOWS)}.")
    elif claims:
        tested = [row for rows in outcomes.values() for row in rows]
        clauses.append(_none(tested, " that could be tested" if untested else ""))
    if MOVES in outcomes:
        clauses += _moves(outcomes[MOVES], tests, names)
    elif not claims:
        clauses.append("No relation that counts is shown.")
    if OPPOSITE in outcomes:
        clauses.append(
            f"It moves with accuracy against the expected direction in {places(OPPOSITE)}."
        )
    if ECHO in outcomes:
        clauses.append(
            f"It moves with accuracy in {places(ECHO)}, but also in the control, so it does not "
            "count."
        )
    if HINT in outcomes:
        clauses.append(
            f"A hint in {places(HINT, numbers=False)} does not survive the correction for many "
            "tests."
        )
    if untested:
        where = listed([_case(row, tests, names) for row in untested])
        clauses.append(f"The test abstains in {where}.")
    return " ".join([*clauses, *_against_claim(tests, evidence, monitor)])


def _against_claim(tests: Sequence[Row], evidence: Evidence, monitor: str) -> list[str]:
    """Where the plain correlation has the other sign than is claimed, with its numbers."""
    direction = evidence.directions.get(monitor, 0)
    against = [
        f"{_case(row, tests, evidence.names)} (r\u00a0{minus(row['pearson'])})"
        for row in tests
        if row.get("pearson") is not None
        and row["pearson"] * direction < 0
        and (row["pearson_low"] or 0) * (row["pearson_high"] or 0) > 0
    ]
    if not against:
        return []
    claimed = "positive" if direction > 0 else "negative"
    return [f"The claimed correlation is {claimed}, the measured one is not: {listed(against)}."]


def _moves(rows: Sequence[Row], tests: Sequence[Row], names: Names) -> list[str]:
    """One clause per sign for a monitor that claims none."""
    clauses = []
    for sign, mark in ((1, "+"), (-1, "−")):
        cases = [
            _case(row, tests, names, numbers=True)
            for row in rows
            if row["difference_spearman"] * sign > 0
        ]
        if cases:
            clauses.append(f"Moves with accuracy ({mark}) in {listed(cases)}.")
    return clauses


def _separates(pairs: Sequence[Row], names: Names) -> str:
    if not pairs:
        return "Without a control series nobody knows whether it would move anyway."
    judged = [row for row in pairs if row["verdict"] != CANNOT_TELL]
    if not judged:
        return f"Not known in {_every(pairs)}: too few checkpoints or values missing."
    apart = [row for row in judged if row["verdict"] == APART]
    clauses = [_none(judged)]
    if apart:
        clauses = [f"Differs in {len(apart)} of {_cases(judged)}: {_domains(apart, names)}."]
    for verdict, words in (
        (FIGURES, "It moves further in the control in {}."),
        (AGAINST, "It moves against the expected direction in {}."),
    ):
        found = [row for row in judged if row["verdict"] == verdict]
        if found:
            clauses.append(words.format(_domains(found, names)))
    return " ".join(clauses)


def _domains(rows: Sequence[Row], names: Names) -> str:
    return listed(list(dict.fromkeys(names.of("domain", row["domain"]) for row in rows)))


def _none(rows: Sequence[Row], which: str = "") -> str:
    cases = _cases(rows)
    if cases.startswith("1 "):
        return f"Not in the one domain{which or ' compared'}."
    return f"In none of {cases}{which}."


def _every(rows: Sequence[Row]) -> str:
    cases = _cases(rows)
    return f"the {cases}" if cases.startswith("1 ") else f"all {cases}"


def _cases(rows: Sequence[Row]) -> str:
    num_domains = len({row["domain"] for row in rows})
    if num_domains < len(rows):
        return f"{len(rows)} cases"
    return f"{num_domains} {'domain' if num_domains == 1 else 'domains'}"


def _case(row: Row, among: Sequence[Row], names: Names, *, numbers: bool = False) -> str:
    words = names.of("domain", row["domain"])
    if len({other["series"] for other in among}) > 1:
        words += f", {names.of('series', row['series'])}"
    p = corrected_p(row)
    if numbers and p is not None:
        words += f" (ρ\u00a0{minus(row['difference_spearman'])}{_timing(row)}, {p_value(p)})"
    return words


def _timing(row: Row) -> str:
    """By how many checkpoints a monitor runs ahead of accuracy or behind it, where it does."""
    lag = row["difference_lag"]
    return f", {'leads' if lag > 0 else 'lags'} by about\u00a0{abs(lag)}" if lag else ""


def separation_mark(verdict: str) -> tuple[str, str]:
    """Class and short words of a separation verdict, for the summary matrix."""
    marks = {
        APART: ("yes", "differs"),
        NOT_APART: ("no", "no difference"),
        FIGURES: ("against", "further in control"),
        STILL: ("still", "moves not"),
        AGAINST: ("against", "moves against"),
        CANNOT_TELL: ("none", "cannot tell"),
    }
    return marks.get(verdict, ("none", verdict))
