"""The sentences say what the rows say, whichever way a study turned out."""

import pytest

from reports import prose, words
from reports.charts import ramp_colour, step_ticks
from reports.figures import Names

NAMES = Names(
    domains={"math": "Math", "code": "Code"},
    series={"main": "main", "shuffled": "shuffled"},
    roles={"main": "main", "shuffled": "control"},
)
MONITOR = {"monitor": "distance", "title": "distance", "expected_direction": -1}
RISEN = {("main", "math"), ("main", "code")}


def row_of(domain="math", *, rho=-0.7, p=0.001, holm=0.01, window=prose.WINDOW):
    return {
        "series": "main",
        "domain": domain,
        "monitor": "distance",
        "window": window,
        "num_checkpoints": 20,
        "difference_spearman": rho,
        "difference_p": p,
        "holm_p": holm,
        "difference_smallest_p": 0.001,
    }


def compared(domain="math", verdict=prose.APART):
    return {
        "domain": domain,
        "monitor": "distance",
        "main_series": "main",
        "control_series": "shuffled",
        "verdict": verdict,
    }


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
    assert prose.outcome(row, -1, 0.05) == expected


def test_either_sign_follows_when_none_is_expected():
    assert prose.outcome(row_of(rho=0.7), 0, 0.05) == "follows"


def told(correlations, separation, risen=RISEN):
    return prose.findings([MONITOR], correlations, separation, risen, NAMES, 0.05)[0]


def test_mixed_results_are_told_as_they_are():
    finding = told(
        [row_of(), row_of("code", rho=0.6)],
        [compared(), compared("code", prose.AGAINST)],
    )
    assert finding.follows == (
        "Yes in 1 of 2 domains: Math (ρ\u00a0−0.70, p\u00a0=\u00a00.010). It moves with accuracy "
        "against the expected direction in Code (ρ\u00a00.60, p\u00a0=\u00a00.010)."
    )
    assert finding.separates == (
        "Yes in 1 of 2 domains: Math. It moves against the expected direction in Code."
    )


def test_other_window_and_flat_domains_do_not_count():
    assert told([row_of(window="all")], []).follows.startswith("Accuracy rises nowhere")
    assert told([row_of()], [], risen=set()).follows.startswith("Accuracy rises nowhere")


def test_abstaining_is_not_a_no():
    finding = told(
        [row_of(p=None, holm=None), row_of("code", p=0.4, holm=1.0)],
        [compared(verdict=prose.CANNOT_TELL)],
    )
    assert finding.follows == (
        "Not in the one domain that could be tested. The test abstains in Math."
    )
    assert finding.separates.startswith("Cannot be told in the 1 domain")


@pytest.mark.parametrize(
    ("correlations", "separation", "expected"),
    [
        ([], [], "No monitor could be held against accuracy"),
        ([row_of()], [], "The study has no control series"),
        ([row_of()], [compared()], "in the same domain: distance (Math), of 1 monitors."),
        ([row_of()], [compared("code")], "Only following: distance (Math)."),
        ([row_of(p=0.5, holm=1.0)], [compared()], "Only telling apart: distance (Math)."),
    ],
)
def test_headline_follows_the_rows(correlations, separation, expected):
    text = prose.headline([MONITOR], correlations, separation, RISEN, NAMES, 0.05)
    assert expected in text


def test_limits_name_the_smallest_p_and_what_it_rules_out():
    rows = [row_of() | {"difference_smallest_p": 0.08, "num_checkpoints": 5}]
    limits = " ".join(prose.limits(rows, NAMES.roles, 5, 0.05))
    assert "rest on 5 checkpoints" in limits
    assert "reach at that number is 0.08" in limits
    assert "cannot reach 0.05 at all" in limits
    assert "no control series" not in limits
    alone = " ".join(prose.limits(rows, {"main": "main"}, 1, 0.05))
    assert "no control series" in alone
    assert "There is one checkpoint" in alone


def test_accuracy_rises_only_in_main_series_and_by_enough():
    row = {"series": "main", "domain": "math", "accuracy_first": 0.1, "accuracy_last": 0.5}
    rows = [row, row | {"domain": "code", "accuracy_last": 0.15}, row | {"series": "shuffled"}]
    rows.append(row | {"domain": "law", "accuracy_first": None, "accuracy_last": None})
    assert prose.rising(rows, NAMES.roles) == {("main", "math")}


def test_verdicts_match_those_of_the_metrics():
    from metrics import separation

    assert (prose.APART, prose.NOT_APART) == (
        separation.TELLS_APART,
        separation.DOES_NOT_TELL_APART,
    )
    assert (prose.STILL, prose.AGAINST, prose.CANNOT_TELL) == (
        separation.DOES_NOT_MOVE,
        separation.AGAINST_EXPECTATION,
        separation.CANNOT_TELL,
    )


def test_numbers_are_written_well():
    assert [words.minus(x) for x in (-0.456, -0.001, 3.0)] == ["−0.46", "0.00", "3.00"]
    assert [words.p_short(p) for p in (0.0001, 0.0312, 0.41)] == ["< 0.001", "0.031", "0.41"]
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.ticked("a `b` <i>") == "a <code>b</code> &lt;i&gt;"
    assert words.correlation_tint(-2.0) == ("neg", 1.0)


def test_axis_ticks_and_ramp():
    assert step_ticks([0, 25, 100, 2400]) == [0, 50, 100, 200, 500, 1000, 2000]
    assert step_ticks([0]) == [0]
    assert ramp_colour(0.0) == "#4f6bd0"
    assert ramp_colour(1.0) == "#cf5a2e"
