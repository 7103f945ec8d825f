"""What counts: where accuracy rises, and what a test says that a control does not say too."""

import pytest

from reports import evidence as module
from reports.evidence import rising
from tests.reports.invented_evidence import evidence, monitor, row_of


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (row_of(), "follows"),
        (row_of(rho=0.7), "opposite"),
        (row_of(holm=0.2), "hint"),
        (row_of(p=0.3, holm=1.0), "no"),
        (row_of(p=None, holm=None), "untested"),
        (row_of(holm=None), "follows"),
    ],
)
def test_outcome_of_a_test(row, expected):
    assert evidence([row]).outcome(row) == expected


def test_without_a_claim_nothing_follows():
    for rho in (0.7, -0.7):
        row = row_of(rho=rho)
        assert evidence([row], monitors=[monitor(direction=0)]).outcome(row) == "moves"


@pytest.mark.parametrize("rho", [0.7, -0.7])
@pytest.mark.parametrize("direction", [-1, 0])
@pytest.mark.parametrize("window", ["all", "after_onset"])
def test_what_the_control_shows_too_does_not_count(rho, direction, window):
    row = row_of(rho=rho)
    control = row_of(series="shuffled", p=0.04, holm=1.0, window=window)
    of_control = evidence([row, control], monitors=[monitor(direction=direction)])
    assert of_control.outcome(row) == "echo"
    assert of_control.echoed(row)
    assert not of_control.echoed(control)


@pytest.mark.parametrize(
    "other",
    [
        row_of(series="shuffled", p=0.06, holm=1.0),
        row_of(series="shuffled", p=None, holm=None),
        row_of("code", series="shuffled"),
        row_of(series="shuffled", name="entropy"),
        row_of("code"),
    ],
)
def test_only_the_same_monitor_and_domain_of_a_control_counts_against(other):
    row = row_of()
    assert evidence([row, other]).outcome(row) == "follows"


def test_the_control_of_another_training_does_not_count_against():
    row, other = row_of(), row_of(series="wide-shuffled", p=0.01, holm=0.2)
    assert evidence([row, other]).outcome(row) == "follows"


def glance(series, domain, first, last, highest=None):
    return {
        "series": series,
        "domain": domain,
        "accuracy_first": first,
        "accuracy_last": last,
        "accuracy_max": last if highest is None else highest,
    }


def test_accuracy_rises_above_its_start_and_above_the_control():
    rows = [
        glance("main", "math", 0.1, 0.5),
        glance("main", "code", 0.1, 0.15),
        glance("main", "law", None, None),
        glance("main", "art", 0.1, 0.5),
        glance("shuffled", "math", 0.1, 0.5, 0.39),
        glance("shuffled", "art", 0.1, 0.1, 0.45),
        glance("shuffled", "law", None, None),
    ]
    assert rising(rows, {"main": ["shuffled"]}) == {("main", "math")}
    # Without a control the start alone decides.
    mains = [row for row in rows if row["series"] == "main"]
    assert rising(mains, {"main": []}) == {("main", "math"), ("main", "art")}
    # Another training's control has no say.
    assert rising(rows, {"main": [], "other": ["shuffled"]}) == {("main", "math"), ("main", "art")}


def test_verdicts_match_those_of_the_metrics():
    from metrics import separation

    assert (module.APART, module.NOT_APART, module.FIGURES) == (
        separation.DIFFERS,
        separation.NO_DIFFERENCE,
        separation.MOVES_FURTHER_IN_CONTROL,
    )
    assert (module.STILL, module.AGAINST, module.CANNOT_TELL) == (
        separation.DOES_NOT_MOVE,
        separation.AGAINST_EXPECTATION,
        separation.CANNOT_TELL,
    )
