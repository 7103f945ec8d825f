"""What the numbers say, in plain sentences; every sentence follows from rows of the warehouse.

Nothing here knows how a study turned out. A monitor earns its keep twice: it follows accuracy in
the detrended test, and it stays quiet (or moves otherwise) in a control that cannot generalize.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.figures import Names, Row
from reports.words import listed, minus, p_value

# The source restricts its correlations to the checkpoints after accuracy starts to rise
# (arXiv 2506.21551, sec. 4.3); so do the sentences. The table shows both windows.
WINDOW = "after_onset"
# Accuracy "rises" in a domain when it ends at least this far above where it began.
RISE = 0.10

# Verdicts as metrics/separation.py words them.
APART, NOT_APART = "tells them apart", "does not tell them apart"
STILL, AGAINST = "does not move in main", "moves against expectation"
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """What one monitor did: its name and two plain sentences."""

    title: str
    follows: str
    separates: str


def rising(glance: Iterable[Row], roles: Mapping[str, str]) -> set[tuple[str, str]]:
    """The (series, domain) of main series in which accuracy rises by at least `RISE`."""
    return {
        (row["series"], row["domain"])
        for row in glance
        if roles.get(row["series"]) == "main"
        and row["accuracy_last"] is not None
        and row["accuracy_last"] - row["accuracy_first"] >= RISE
    }


def outcome(row: Row, direction: int, significance: float) -> str:
    """What the detrended test says of one row of `correlations`.

    Returns
    -------
    str
        `follows`, `opposite` (significant, but against the expected sign), `hint` (significant
        only before Holm's correction), `no`, or `untested` (the test
        abstains).
    """
    # The test's p-value belongs to the rank correlation, so its sign is the one that counts.
    if row["difference_p"] is None or row["difference_spearman"] is None:
        return "untested"
    corrected = row["difference_p"] if row["holm_p"] is None else row["holm_p"]
    if corrected <= significance:
        return "opposite" if row["difference_spearman"] * direction < 0 else "follows"
    return "hint" if row["difference_p"] <= significance else "no"


def findings(
    monitors: Sequence[Row],
    correlations: Sequence[Row],
    separation: Sequence[Row],
    risen: set[tuple[str, str]],
    names: Names,
    significance: float,
) -> list[Finding]:
    """One finding per monitor that was tested or compared with a control."""
    found = []
    for monitor in monitors:
        name = monitor["monitor"]
        tests = [
            row
            for row in correlations
            if row["monitor"] == name
            and row["window"] == WINDOW
            and (row["series"], row["domain"]) in risen
        ]
        pairs = [row for row in separation if row["monitor"] == name]
        if not pairs and not any(row["monitor"] == name for row in correlations):
            continue
        follows = _follows(tests, monitor["expected_direction"], names, significance)
        found.append(Finding(monitor["title"], follows, _separates(pairs, names)))
    return found


def _follows(tests: Sequence[Row], direction: int, names: Names, significance: float) -> str:
    if not tests:
        return "Accuracy rises nowhere in the main series, so there is nothing to follow."
    sorted_out: dict[str, list[Row]] = {}
    for row in tests:
        sorted_out.setdefault(outcome(row, direction, significance), []).append(row)
    untested = sorted_out.pop("untested", [])
    tested = [row for rows in sorted_out.values() for row in rows]
    if not tested:
        return f"Cannot be told: the test abstains in {_every(tests)}."
    clauses = []
    if follows := sorted_out.get("follows"):
        told = listed([_case(row, tests, names, numbers=True) for row in follows])
        clauses.append(f"Yes in {len(follows)} of {_cases(tests)}: {told}.")
    else:
        clauses.append(_none(tested, " that could be tested" if untested else ""))
    if opposite := sorted_out.get("opposite"):
        told = listed([_case(row, tests, names, numbers=True) for row in opposite])
        clauses.append(f"It moves with accuracy against the expected direction in {told}.")
    if hint := sorted_out.get("hint"):
        told = listed([_case(row, tests, names) for row in hint])
        clauses.append(f"A hint in {told} does not survive the correction for many tests.")
    if untested:
        told = listed([_case(row, tests, names) for row in untested])
        clauses.append(f"The test abstains in {told}.")
    return " ".join(clauses)


def _separates(pairs: Sequence[Row], names: Names) -> str:
    if not pairs:
        return "Without a control series nobody knows whether it would move anyway."
    judged = [row for row in pairs if row["verdict"] != CANNOT_TELL]
    if not judged:
        return f"Cannot be told in {_every(pairs)}: too few checkpoints or values missing."
    wrong = [names.of("domain", row["domain"]) for row in judged if row["verdict"] == AGAINST]
    told = listed(list(dict.fromkeys(wrong))) if wrong else ""
    against = f" It moves against the expected direction in {told}." if wrong else ""
    apart = [row for row in judged if row["verdict"] == APART]
    if not apart:
        return _none(judged) + against
    told = listed(list(dict.fromkeys(names.of("domain", row["domain"]) for row in apart)))
    return f"Yes in {len(apart)} of {_cases(judged)}: {told}.{against}"


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
    if numbers:
        corrected = row["difference_p"] if row["holm_p"] is None else row["holm_p"]
        words += f" (ρ\u00a0{minus(row['difference_spearman'])}, {p_value(corrected)})"
    return words


def headline(
    monitors: Sequence[Row],
    correlations: Sequence[Row],
    separation: Sequence[Row],
    risen: set[tuple[str, str]],
    names: Names,
    significance: float,
) -> str:
    """The study in one or two sentences: which monitors pass both tests in the same domain."""
    tested = {row["monitor"] for row in correlations}
    if not tested:
        return "No monitor could be held against accuracy, because no accuracy was measured."
    if not risen:
        return (
            f"Accuracy rises by {RISE:.0%} or more in no domain of a main series, so this study "
            "cannot say whether a monitor follows generalization."
        )
    if not separation:
        return (
            f"Accuracy rises in {listed(_domains(risen, names))}. The study has no control "
            "series, so it cannot say whether a monitor would move without generalization too."
        )
    direction = {row["monitor"]: row["expected_direction"] for row in monitors}
    following = [
        (row["monitor"], row["domain"], row["series"])
        for row in correlations
        if row["window"] == WINDOW
        and (row["series"], row["domain"]) in risen
        and outcome(row, direction.get(row["monitor"], 0), significance) == "follows"
    ]
    apart = [
        (row["monitor"], row["domain"], row["main_series"])
        for row in separation
        if row["verdict"] == APART and (row["main_series"], row["domain"]) in risen
    ]
    title = {row["monitor"]: row["title"] for row in monitors}
    both = [place for place in following if place in apart]
    rises = f"Accuracy rises in {listed(_domains(risen, names))}."
    if both:
        return (
            f"{rises} Following accuracy in the detrended test and telling the main series from "
            f"the control in the same domain: {_where(both, title, names)}, of {len(tested)} "
            "monitors."
        )
    answer = (
        f"{rises} None of the {len(tested)} monitors both follows accuracy in the detrended test "
        "and tells the main series from the control in the same domain."
    )
    if following:
        answer += f" Only following: {_where(following, title, names)}."
    if apart:
        answer += f" Only telling apart: {_where(apart, title, names)}."
    return answer


def _where(places: Sequence[tuple[str, str, str]], title: Mapping[str, str], names: Names) -> str:
    """Monitors with the domains they did it in: `a (Math and Code); b (Math)`."""
    found: dict[str, set[tuple[str, str]]] = {}
    for monitor, domain, series in places:
        found.setdefault(monitor, set()).add((series, domain))
    return "; ".join(
        f"{title.get(monitor, monitor)} ({listed(_domains(where, names))})"
        for monitor, where in found.items()
    )


def _domains(places: set[tuple[str, str]], names: Names) -> list[str]:
    there = {domain for _, domain in places}
    return [title for domain, title in names.domains.items() if domain in there]


def limits(
    correlations: Sequence[Row], roles: Mapping[str, str], num_steps: int, significance: float
) -> list[str]:
    """What this study cannot show, with the numbers that say so."""
    told = []
    if num_steps < 2:
        told.append("There is one checkpoint: nothing can be said about change over training.")
    judged = [
        row
        for row in correlations
        if row["window"] == WINDOW and roles.get(row["series"]) == "main"
    ]
    floors = [
        row["difference_smallest_p"] for row in judged if row["difference_smallest_p"] is not None
    ]
    if floors:
        sizes = [row["num_checkpoints"] for row in judged]
        span = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
        told.append(
            f"The tests after the onset rest on {span} checkpoints. The smallest p a test can "
            f"reach at that number is {max(floors):.2g} before correction."
        )
        if max(floors) > significance:
            told.append(
                f"Some tests cannot reach {significance:g} at all: their silence means nothing."
            )
    counts = Counter(roles.values())
    singles = [f"one {role} series" for role in counts if counts[role] == 1]
    if singles:
        told.append(
            f"There is {listed(singles)}, each trained with one seed. What differs between two "
            "single runs may be luck, and no test of significance is possible for it."
        )
    if "control" not in counts:
        told.append("There is no control series to say what happens without generalization.")
    told.append(
        "A correlation, even a detrended one, does not say that routing causes generalization."
    )
    return told


def separation_mark(verdict: str) -> tuple[str, str]:
    """Class and short words of a separation verdict, for the summary matrix."""
    marks = {
        APART: ("yes", "tells apart"),
        NOT_APART: ("no", "does not"),
        STILL: ("still", "moves not"),
        AGAINST: ("against", "moves against"),
        CANNOT_TELL: ("none", "cannot tell"),
    }
    return marks.get(verdict, ("none", verdict))
