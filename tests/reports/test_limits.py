"""The limits and the order of events say what the rows say."""

import numpy as np
import pytest

from reports.evidence import WINDOW
from reports.figures import Names
from reports.limits import DRAWN_FROM, limits
from reports.order import order_of_events
from tests.reports.invented_evidence import NAMES, evidence, monitor, row_of


def limits_of(rows, *, names=NAMES, num_steps=20, power=None):
    return " ".join(limits(evidence(rows, names=names, power=power), num_steps))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((20, 35), "rest on 20 to 35 checkpoints. The smallest p they can reach is 0.001, set by "
         "the number of permutations drawn, not by that of checkpoints."),
        ((8, 8), "rest on 8 checkpoints. The smallest p they can reach is 0.001, set by the "
         "number of checkpoints."),
        ((8, 20), "set by the number of checkpoints where they are few, else by"),
    ],
)  # fmt: skip
def test_the_smallest_p_and_what_sets_it(sizes, expected):
    rows = [
        row_of(domain, num_checkpoints=n) for domain, n in zip(("math", "code"), sizes, strict=True)
    ]
    rows.append(row_of("code", name="short", num_checkpoints=5, smallest_p=None))
    assert expected in limits_of(rows)


def test_permutations_are_drawn_from_the_stated_number_of_checkpoints():
    from metrics.detrended import detrended_test

    def floor(num_checkpoints, num_permutations):
        x, y = np.random.default_rng(2).normal(size=(2, num_checkpoints))
        steps = np.arange(num_checkpoints)
        return detrended_test(x, y, steps, seed=0, num_permutations=num_permutations).smallest_p

    assert floor(DRAWN_FROM, 99) == 1 / 100
    assert floor(DRAWN_FROM, 9) == 1 / 10
    assert floor(DRAWN_FROM - 1, 99) == floor(DRAWN_FROM - 1, 9) < 1 / 100


@pytest.mark.parametrize(
    ("size", "floor", "expected"),
    [
        (12, 2.0**-9, "set by the number of checkpoints."),  # ten signs to flip
        (16, 0.0002, "set by the number of permutations drawn"),
    ],
)
def test_few_signs_can_set_the_smallest_p(size, floor, expected):
    assert expected in limits_of([row_of(num_checkpoints=size, smallest_p=floor)])


def seen(domain="math", series="main", power=0.23, corrected=0.05):
    return {"series": series, "domain": domain, "power": power, "corrected_power": corrected}


def test_what_a_perfect_monitor_could_show_is_said():
    rows = [seen(), seen("code", power=0.9, corrected=0.6), seen("code", series="shuffled")]
    assert (
        "With these checkpoints, documents and wobble a perfect monitor, equal to the true "
        "accuracy, would be seen in this share of simulated runs (after correction): "
        "Math 23\u00a0% (5\u00a0%); Code 90\u00a0% (60\u00a0%). Where that is little, “not shown” "
        "says little." in limits_of([row_of()], power=rows)
    )
    assert "says little" not in limits_of([row_of()], power=[rows[1]])
    assert "perfect monitor" not in limits_of([row_of()], power=[rows[2]])
    assert "perfect monitor" not in limits_of([row_of()])


def test_correction_can_put_the_level_out_of_reach():
    rows = [row_of(name=f"monitor {n}", smallest_p=0.02) for n in range(3)]
    assert (
        "Correction for the 3 tests of a family turns that into 0.06, so some tests cannot reach"
    ) in limits_of(rows)
    assert "cannot reach" not in limits_of(rows[:2])


def test_correction_counts_the_tests_of_one_family():
    """Holm's correction runs within a family, and a test near the level draws more resamples."""
    rows = [row_of(name=f"monitor {n}", smallest_p=0.02) for n in range(4)]
    families = [monitor(f"monitor {n}", family="paper" if n < 2 else "candidate") for n in range(4)]
    text = " ".join(limits(evidence(rows, monitors=families), 20))
    assert "cannot reach" not in text
    far = [row_of(name=f"monitor {n}", smallest_p=0.02, p=0.5) for n in range(4)]
    assert "cannot reach" not in limits_of(far)
    few = [{**row, "num_checkpoints": 8} for row in far]  # nothing finer to draw
    assert "Correction for the 4 tests of a family turns that into 0.08" in limits_of(few)


def test_what_the_test_finds_in_the_control_is_counted():
    rows = [
        row_of(),
        row_of(series="shuffled", p=0.04, holm=0.2),
        row_of("code", series="shuffled", p=0.001, holm=0.004),
        row_of("code", series="shuffled", name="entropy", p=0.6, holm=1.0),
        row_of("code", series="shuffled", name="length", p=None, holm=None),
        row_of("code", series="shuffled", name="length", window="all"),
    ]
    assert (
        "In the control shuffled the same test finds 2 of 3 (monitor and domain) at p ≤ 0.05 "
        "before correction, 1 after; chance alone would give at most about 0 before. The monitors "
        "of a domain share one accuracy, so these are not so many independent tests. What it finds "
        "there does not count" in limits_of(rows)
    )
    assert "finds 0 of 1 (monitor" in limits_of([rows[3]])
    assert "What it finds there" not in limits_of([rows[3]])
    assert "control shuffled the same test abstains everywhere" in limits_of([rows[4]])


def test_windows_that_are_the_complete_run_are_named():
    rows = [
        row_of("math", num_checkpoints=12),
        row_of("math", num_checkpoints=20, window="all"),
        row_of("code", num_checkpoints=20),
        row_of("code", name="gappy", num_checkpoints=18),
        row_of("code", num_checkpoints=20, window="all"),
    ]
    assert (
        "In Code the window after the onset is the complete run, so it includes the first "
        "checkpoints" in limits_of(rows)
    )
    assert "complete run" not in limits_of(rows[:2])
    assert "whole run" not in limits_of(
        [row_of(num_checkpoints=1, window=w) for w in (WINDOW, "all")]
    )


def test_what_is_missing_is_said():
    assert "no control series" not in limits_of([row_of()])
    alone = Names(domains=NAMES.domains, series={"main": "main"}, roles={"main": "main"})
    text = limits_of([], names=alone, num_steps=1)
    assert "no control series" in text
    assert "There is one checkpoint" in text
    assert "smallest p" not in text


def happened(domain="math", series="main", *, share=0.22, in_range=True):
    return {
        "series": series,
        "domain": domain,
        "loss_step": 50,
        "accuracy_step": 1000,
        "memorized_step": None,
        "in_range": in_range,
        "share_memorized": share,
        "share_low": 0.2,
        "share_high": 0.25,
        "training_loss": 0.1,
        "validation_loss": 2.0,
        "is_memorized": True,
        "note": None,
    }


def ordered(*rows, risen=frozenset({("main", "math")})):
    return order_of_events(lambda sql: list(rows), NAMES, set(risen))


def test_events_are_told_in_their_order():
    assert ordered(happened(), happened(series="shuffled")) == [
        "Math: the training loss has gone half of its way by step 50, accuracy has gone half of "
        "its way by step 1,000."
    ]


def test_memorized_samples_that_are_known_no_better_than_others_are_no_sign_of_memorization():
    """A training loss of 4.46 beside a validation loss of 4.63 was told as 20 % memorized."""
    row = happened(share=0.195) | {"memorized_step": 1200, "is_memorized": False}
    row |= {"training_loss": 4.46, "validation_loss": 4.63}
    (_, worth) = ordered(row)
    assert worth.startswith("Math: 19.5 % of the samples count as memorized before the end")
    assert "at step 1,200" in worth
    assert "the training loss is 4.46 and the validation loss 4.63" in worth
    assert "training samples on average are known hardly better than held-out ones" in worth
    assert len(ordered(row | {"is_memorized": None})) == 1


@pytest.mark.parametrize(
    ("shares", "expected", "cause"),
    [
        ((0.9, 1.0), "it is 90.0 to 100.0 %.", "What decides there"),
        ((0.1, 0.1), "it is 10.0 %.", "There too few samples count as memorized"),
        ((0.1, 0.9), "it is 10.0 to 90.0 %.", None),
    ],
)
def test_missed_thresholds_are_told_of_the_control_too(shares, expected, cause):
    main, control = shares
    text = ordered(
        happened(share=main, in_range=False),
        happened("code", series="shuffled", share=control, in_range=False),
        happened("math", series="shuffled"),
    )[-1]
    assert text.startswith("In 1 of 1 domains of main and 1 of 2 domains of shuffled the share")
    assert expected in text
    causes = ("What decides there", "There too few")
    assert [c for c in causes if c in text] == [c for c in causes if cause and c in cause]


def test_a_share_above_a_threshold_that_the_study_gave_has_no_such_cause():
    given = happened(share=0.9, in_range=False) | {"note": "epsilon given by the study"}
    assert "What decides there" not in ordered(given)[-1]


def test_the_order_is_read_from_the_warehouse(database):
    from store.warehouse import query

    names = Names(domains={"math": "Math", "code": "Code"}, series=NAMES.series)
    sentences = order_of_events(
        lambda sql: query(database, sql).to_pylist(), names, {("main", "math")}
    )
    # Loss and accuracy go 1 - exp(-step / 100) of their way; half of 25 and 50 is 25.
    assert sentences[0] == (
        "Math: half of the samples memorized before the end are so by step 25, accuracy has gone "
        "half of its way by step 100, the training loss has gone half of its way by step 100."
    )
    assert sentences[1].startswith("In 2 of 2 domains of main and 2 of 2 domains of shuffled")
    assert "it is 50.0 %" in sentences[1]
