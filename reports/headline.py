"""The study in two or three sentences: which monitors pass both tests in the same domain.

The sentences count how many measures were tested, and how many of them claim a direction.
"""

from collections import Counter
from collections.abc import Sequence

from reports.evidence import APART, ECHO, FOLLOWS, RISE, Evidence, by_outcome
from reports.words import listed

Place = tuple[str, str, str]
"""Monitor, domain, main series."""

MOST_NAMED = 2
"""More monitors or domains are counted instead of named."""


def headline(evidence: Evidence) -> str:
    """What the study shows in at most some 60 words.

    Only monitors that claim a direction are counted and named.
    """
    tested = {row["monitor"] for row in evidence.correlations}
    if not tested:
        return "No monitor could be held against accuracy, because no accuracy was measured."
    if not evidence.risen:
        above = " and above the control" if "control" in evidence.names.roles.values() else ""
        return (
            f"In no domain of a main series does accuracy end {RISE * 100:.0f} points or more "
            f"above where it began{above}, so this study cannot say whether a monitor follows "
            "generalization."
        )
    rises = f"Accuracy rises in {_risen_domains(evidence)}."
    tests = evidence.tests()
    if tests and all(row["difference_p"] is None for row in tests):
        most = max(row["num_checkpoints"] for row in tests)
        return (
            f"{rises} With at most {most} checkpoints after the onset the detrended test abstains "
            "for every monitor, so whether any follows accuracy cannot be known; more checkpoints "
            "are needed."
        )
    if not evidence.separation:
        return (
            f"{rises} The study has no control series that it could be compared with, so it cannot "
            "say whether a monitor would move without generalization too."
        )
    claiming = {monitor for monitor in tested if evidence.directions.get(monitor, 0)}
    if not claiming:
        return f"{rises} None of the measures held against it claims a direction."
    num_tested = _counted(len(tested), "measure")
    among = f"Of {num_tested} tested, {len(claiming)} shown here with a claimed direction"
    return " ".join([rises, *_verdict(evidence, among)])


def _verdict(evidence: Evidence, among: str) -> list[str]:
    outcomes = by_outcome(evidence, evidence.tests())
    following = [
        (row["monitor"], row["domain"], row["series"]) for row in outcomes.get(FOLLOWS, [])
    ]
    # What claims no direction cannot hold it; the findings below tell what it does.
    apart = [
        (row["monitor"], row["domain"], row["main_series"])
        for row in evidence.separation
        if row["verdict"] == APART
        and (row["main_series"], row["domain"]) in evidence.risen
        and evidence.directions.get(row["monitor"], 0)
    ]
    both = [place for place in following if place in apart]
    if both:
        found = (
            f"{among}: following accuracy in the detrended test and differing from the control in "
            f"the same domain, in these two runs: {_where(both, evidence)}."
        )
        return [found, *_echoes(outcomes.get(ECHO, []))]
    sentences = [
        f"{among}: none both follows accuracy in the detrended test and differs from the control "
        "in the same domain."
    ]
    if following:
        sentences.append(f"Only following: {_where(following, evidence)}.")
    if apart:
        sentences.append(f"Only differing from the control: {_where(apart, evidence)}.")
    return sentences + _echoes(outcomes.get(ECHO, []))


def _echoes(rows: Sequence[object]) -> list[str]:
    number = _counted(len(rows), "finding")
    return [f"Also in the control, so not counted: {number}."] if rows else []


def _where(places: Sequence[Place], evidence: Evidence) -> str:
    """Few monitors by name, `a (Math and Code)`; many as `5 monitors in Math, 2 in Code`."""
    domains = evidence.names.domains
    found: dict[str, set[str]] = {}
    for monitor, domain, _ in places:
        found.setdefault(monitor, set()).add(domain)
    if len(found) <= MOST_NAMED:
        title = {row["monitor"]: row["title"] for row in evidence.monitors}
        return "; ".join(
            f"{title.get(monitor, monitor)} ({_domains(there, evidence)})"
            for monitor, there in found.items()
        )
    counts = Counter(domain for there in found.values() for domain in there)
    if len(counts) > 2 * MOST_NAMED:
        return f"{len(found)} monitors in {_domains(set(counts), evidence)}"
    alike: dict[int, list[str]] = {}
    for name in domains:
        alike.setdefault(counts[name], []).append(domains[name])
    (first, where), *rest = [
        (number, _each(alike[number])) for number in sorted(alike, reverse=True) if number
    ]
    more = [f"{number} in {there}" for number, there in rest]
    return ", ".join([f"{_counted(first, 'monitor')} in {where}", *more])


def _each(titles: Sequence[str]) -> str:
    if len(titles) == 1:
        return titles[0]
    return f"each of {listed(titles) if len(titles) <= MOST_NAMED else f'{len(titles)} domains'}"


def _risen_domains(evidence: Evidence) -> str:
    return _domains({domain for _, domain in evidence.risen}, evidence)


def _domains(there: set[str], evidence: Evidence) -> str:
    titles = [title for name, title in evidence.names.domains.items() if name in there]
    if len(titles) <= MOST_NAMED:
        return listed(titles)
    total = len(evidence.names.domains)
    return f"all {total} domains" if len(titles) == total else f"{len(titles)} of {total} domains"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
