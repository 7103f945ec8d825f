"""What a study cannot show, with the numbers that say so."""

from collections import Counter
from collections.abc import Mapping, Sequence

from reports.evidence import WINDOW, Evidence
from reports.figures import Row
from reports.words import listed

# From this many checkpoints on more than 8 differences enter the detrended test, which then draws
# permutations instead of going through all of them; from 12 on it flips the signs of all but 2, of
# which there are only so many (metrics/detrended.py, metrics/lags.py).
DRAWN_FROM, FLIPPED_FROM = 10, 12

FINER = 20
"""How many times more resamples a test near the level draws (metrics/monitors.py)."""

ENOUGH_POWER = 0.8
"""Below this power the silence of a test says little."""


def limits(evidence: Evidence, num_steps: int, left_out: Sequence[Row] = ()) -> list[str]:
    """One sentence or two per limit.

    Parameters
    ----------
    left_out
        Rows of the table of this name.
    num_steps
        Distinct steps at which there is a checkpoint.
    """
    names = evidence.names
    sentences = [
        f"Checkpoint {row['revision']} of {names.of('series', row['series'])} is left out: "
        f"{row['reason']}."
        for row in left_out
    ]
    if num_steps < 2:
        sentences.append(
            "There is one checkpoint: nothing can be concluded about change over training."
        )
    roles = evidence.names.roles
    sentences += _reach(evidence)
    sentences += _power(evidence)
    sentences += _windows_of_all(evidence)
    if any(row["monitor"] == "validation_loss" for row in evidence.correlations):
        sentences.append(
            "Validation loss needs held-out samples. Where they come from the pool that the "
            "benchmark was drawn from, as in the nano studies, that it follows accuracy is nearly "
            "built in."
        )
    for series in (name for name, role in roles.items() if role == "control"):
        sentences += _control(series, evidence)
    counts = Counter(roles.values())
    singles = [f"one {role} series" for role in counts if counts[role] == 1]
    if singles:
        sentences.append(
            f"There is {listed(singles)}, a single run each. What differs between two "
            "single runs may be luck, and no test of significance is possible for it."
        )
    if "control" not in counts:
        sentences.append("There is no control series to say what happens without generalization.")
    sentences.append(
        "A correlation, even a detrended one, does not say that routing causes generalization."
    )
    return sentences


def _reach(evidence: Evidence) -> list[str]:
    """On how many checkpoints the tests rest and how small a p they can reach."""
    tested = [
        row
        for row in evidence.correlations
        if row["window"] == WINDOW
        and evidence.names.roles.get(row["series"]) == "main"
        and row["difference_smallest_p"] is not None
    ]
    if not tested:
        return []
    sizes = [row["num_checkpoints"] for row in tested]
    drawn = [_is_drawn(row) for row in tested]
    floors = [row["difference_smallest_p"] for row in tested]
    num_tests, corrected = _corrected_floor(tested, evidence)
    reason = {
        (True, True): "set by the number of permutations drawn, not by that of checkpoints",
        (False, False): "set by the number of checkpoints",
        (False, True): "set by the number of checkpoints where they are few, else by the number of "
        "permutations drawn",
    }[all(drawn), any(drawn)]
    sentences = [
        f"The tests after the onset rest on {_span(sizes, 'd')} checkpoints. The smallest p they "
        f"can reach is {_span(floors, '.2g')}, {reason}."
    ]
    if corrected > evidence.significance:
        sentences.append(
            f"Correction for the {num_tests} tests of a family turns that into {corrected:.2g}, so "
            "some tests "
            f"cannot reach {evidence.significance:g} at all: their silence means nothing."
        )
    return sentences


def _corrected_floor(tested: Sequence[Row], evidence: Evidence) -> tuple[int, float]:
    """Where Holm's correction, within a family of measures, is hardest: its tests, smallest p."""
    families = {row["monitor"]: row["family"] for row in evidence.monitors}
    blocks: dict[tuple[str, str], list[float]] = {}
    for row in tested:
        floor: float = row["difference_smallest_p"]
        # A test that comes near the level draws more (metrics/monitors.py): its floor is finer.
        if _is_drawn(row) and row["difference_p"] > 2 * evidence.significance:
            floor /= FINER
        blocks.setdefault((row["series"], families.get(row["monitor"], "")), []).append(floor)
    worst = max(blocks.values(), key=lambda floors: max(floors) * len(floors))
    return len(worst), min(1.0, max(worst) * len(worst))


def _is_drawn(row: Row) -> bool:
    """Whether the number of permutations sets the smallest p, and not that of checkpoints."""
    size: int = row["num_checkpoints"]
    by_signs = size >= FLIPPED_FROM and row["difference_smallest_p"] <= 2.0 ** (3 - size)
    return size >= DRAWN_FROM and not by_signs


def _power(evidence: Evidence) -> list[str]:
    """How often the best monitor that there can be would be seen."""
    rows = [
        row
        for row in evidence.power
        if evidence.names.roles.get(row["series"]) == "main"
        and (row["series"], row["domain"]) in evidence.risen
    ]
    if not rows:
        return []
    several = len({row["series"] for row in rows}) > 1

    def place(row: Row) -> str:
        domain = evidence.names.of("domain", row["domain"])
        return f"{domain}, {evidence.names.of('series', row['series'])}" if several else domain

    each = [
        f"{place(row)} {row['power']:.0%} ({row['corrected_power']:.0%})".replace("%", "\u00a0%")
        for row in rows
    ]
    least = min(row["power"] for row in rows)
    silence = " Where that is little, “not shown” says little." if least < ENOUGH_POWER else ""
    return [
        "With these checkpoints, documents and wobble a perfect monitor, equal to the true "
        "accuracy, would be seen in this share of simulated runs (after correction): "
        f"{'; '.join(each)}.{silence}"
    ]


def _windows_of_all(evidence: Evidence) -> list[str]:
    """Where the window after the onset is no selection at all."""
    sentences = []
    mains = [name for name, role in evidence.names.roles.items() if role == "main"]
    for series in mains:
        after = _sizes(evidence.correlations, series, WINDOW)
        every = _sizes(evidence.correlations, series, "all")
        in_full = [
            title
            for domain, title in evidence.names.domains.items()
            if after.get(domain, 0) > 1 and after[domain] == every.get(domain)
        ]
        if in_full:
            which = f" of {evidence.names.of('series', series)}" if len(mains) > 1 else ""
            sentences.append(
                f"In {listed(in_full)}{which} the window after the onset is the complete run, so "
                "it includes the first checkpoints and the fitting of the training data."
            )
    return sentences


def _sizes(correlations: Sequence[Row], series: str, window: str) -> Mapping[str, int]:
    """Most checkpoints that a monitor has in each domain."""
    sizes: dict[str, int] = {}
    for row in correlations:
        if (row["series"], row["window"]) == (series, window):
            sizes[row["domain"]] = max(row["num_checkpoints"], sizes.get(row["domain"], 0))
    return sizes


def _control(series: str, evidence: Evidence) -> list[str]:
    """How often the test fires where nothing can generalize."""
    rows = [r for r in evidence.correlations if (r["series"], r["window"]) == (series, WINDOW)]
    if not rows:
        return []
    name, level = evidence.names.of("series", series), evidence.significance
    tested = [row for row in rows if row["difference_p"] is not None]
    if not tested:
        return [
            f"In the control {name} the same test abstains everywhere, so it is not known how "
            "often it fires without generalization."
        ]
    raw = sum(row["difference_p"] <= level for row in tested)
    after = sum(row["holm_p"] is not None and row["holm_p"] <= level for row in tested)
    sentences = (
        f"In the control {name} the same test finds {raw} of {len(tested)} (monitor and domain) at "
        f"p ≤ {level:g} before correction, {after} after; chance alone would give at most about "
        f"{len(tested) * level:.0f} before. The monitors of a domain share one accuracy, so these "
        "are not so many independent tests."
    )
    return [sentences + (" What it finds there does not count in the main series." if raw else "")]


def _span(values: Sequence[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"
