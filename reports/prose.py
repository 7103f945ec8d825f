"""What the numbers say, in plain sentences; every sentence follows from rows of the warehouse.

Nothing here knows how a study turned out. A monitor earns its keep twice: it follows accuracy in
the detrended test, and it stays quiet (or moves otherwise) in a control that cannot generalize.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.figures import Names, Row

# The source restricts its correlations to the checkpoints after accuracy starts to rise
# (arXiv 2506.21551, sec. 4.3); so do the sentences. The table shows both windows.
WINDOW = "after_onset"
# Accuracy "rises" in a domain when it ends at least this far above where it began.
RISE = 0.10

APART, NOT_APART = "tells them apart", "does not tell them apart"


@dataclass(frozen=True)
class Finding:
    """What one monitor did: its name and two plain sentences."""

    title: str
    follows: str
    separates: str


def minus(value: float, digits: int = 2) -> str:
    """A number with a true minus sign and no negative zero.

    >>> minus(-0.456), minus(-0.001)
    ('−0.46', '0.00')
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def p_short(p: float) -> str:
    """A p-value to the digits that matter.

    >>> p_short(0.00004), p_short(0.0312), p_short(0.41)
    ('< 0.001', '0.031', '0.41')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_value(p: float) -> str:
    """A p-value as prose: `p = 0.031`, `p < 0.001`."""
    short = p_short(p)
    return f"p {short}" if short.startswith("<") else f"p = {short}"


def opening(text: str) -> str:
    """Text as it opens a sentence: `pathway distance` becomes `Pathway distance`."""
    return text[:1].upper() + text[1:]


def listed(words: Sequence[str]) -> str:
    """Words as prose: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


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
    clauses = []
    if follows := sorted_out.get("follows"):
        told = listed([_case(row, tests, names, numbers=True) for row in follows])
        clauses.append(f"Follows accuracy in {len(follows)} of {_cases(tests)}: {told}.")
    else:
        clauses.append(f"Follows accuracy in none of {_cases(tests)}.")
    if opposite := sorted_out.get("opposite"):
        told = listed([_case(row, tests, names, numbers=True) for row in opposite])
        clauses.append(f"Moves with accuracy against the expected direction in {told}.")
    if hint := sorted_out.get("hint"):
        told = listed([_case(row, tests, names) for row in hint])
        clauses.append(f"A hint in {told} does not survive the correction for many tests.")
    if untested := sorted_out.get("untested"):
        told = listed([_case(row, tests, names) for row in untested])
        clauses.append(f"Could not be tested in {told}.")
    return " ".join(clauses)


def _separates(pairs: Sequence[Row], names: Names) -> str:
    if not pairs:
        return "Without a control series nobody knows whether it would move anyway."
    apart = [row for row in pairs if row["verdict"] == APART]
    num_domains = len({row["domain"] for row in pairs})
    of = _cases(pairs) if len(pairs) > num_domains else f"{num_domains} domains"
    if num_domains == len(pairs) == 1:
        of = "1 domain"
    if not apart:
        return f"Tells main from control in none of {of}."
    told = listed([names.of("domain", row["domain"]) for row in apart])
    return f"Tells main from control in {len(apart)} of {of}: {told}."


def _cases(rows: Sequence[Row]) -> str:
    num_domains = len({row["domain"] for row in rows})
    if num_domains < len(rows):
        return f"{len(rows)} cases (series and domain)"
    return f"{num_domains} {'domain' if num_domains == 1 else 'domains'}"


def _case(row: Row, among: Sequence[Row], names: Names, *, numbers: bool = False) -> str:
    words = names.of("domain", row["domain"])
    if len({other["series"] for other in among}) > 1:
        words += f", {names.of('series', row['series'])}"
    if numbers:
        corrected = row["difference_p"] if row["holm_p"] is None else row["holm_p"]
        words += f" (ρ {minus(row['difference_spearman'])}, {p_value(corrected)})"
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
    both: dict[str, list[str]] = {}
    for row in correlations:
        name, place = row["monitor"], (row["series"], row["domain"])
        if row["window"] != WINDOW or place not in risen:
            continue
        if outcome(row, direction.get(name, 0), significance) == "follows" and any(
            other["verdict"] == APART
            and (other["main_series"], other["domain"], other["monitor"]) == (*place, name)
            for other in separation
        ):
            both.setdefault(name, []).append(row["domain"])
    rises = f"Accuracy rises in {listed(_domains(risen, names))}."
    if not both:
        return (
            f"{rises} None of the {len(tested)} monitors both follows accuracy in the detrended "
            "test and tells the main series from the control in the same domain."
        )
    title = {row["monitor"]: row["title"] for row in monitors}
    told = [
        f"{title.get(name, name)} ({listed(_domains({('', d) for d in domains}, names))})"
        for name, domains in both.items()
    ]
    verb = "monitors both follow" if len(both) > 1 else "monitor both follows"
    return (
        f"{rises} {len(both)} of the {len(tested)} {verb} accuracy in the detrended test and "
        f"tell{'' if len(both) > 1 else 's'} the main series from the control in the same "
        f"domain: {listed(told)}."
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
    floors = [
        row["difference_smallest_p"]
        for row in correlations
        if row["window"] == WINDOW and row["difference_smallest_p"] is not None
    ]
    if floors:
        sizes = [row["num_checkpoints"] for row in correlations if row["window"] == WINDOW]
        span = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
        told.append(
            f"The tests after the onset rest on {span} checkpoints. The smallest p a test can "
            f"reach at that number is {max(floors):.2g} before correction."
        )
        if max(floors) > significance:
            told.append(
                f"Some tests cannot reach {significance:g} at all: their silence means nothing."
            )
    counts: dict[str, int] = {}
    for role in roles.values():
        counts[role] = counts.get(role, 0) + 1
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


def separation_mark(verdict: str | None) -> tuple[str, str]:
    """Class and short words of a separation verdict, for the summary matrix."""
    if verdict is None:
        return "none", "not compared"
    if verdict == APART:
        return "yes", "tells apart"
    if verdict == NOT_APART:
        return "no", "does not"
    if "does not move" in verdict:
        return "still", "moves not"
    if "against" in verdict:
        return "against", "moves the other way"
    if verdict == "cannot tell":
        return "none", "cannot tell"
    return "other", verdict


def correlation_tint(value: Any) -> tuple[str, float]:
    """Class and strength in [0, 1] of a correlation's cell: colour by sign, depth by size."""
    if value is None:
        return "nil", 0.0
    return ("pos" if value > 0 else "neg"), round(min(abs(value), 1.0), 3)
