import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.curves import (
    MIN_DIFFERENCES,
    accuracy_onset,
    moving_average,
    outliers,
    quadratic_trend,
    trend_rows,
)


def test_a_parabola_is_recovered_exactly():
    x = np.arange(10)
    trend = quadratic_trend(x, 3 - 2 * x + 0.25 * x**2)
    found = [trend[name] for name in ("constant", "linear", "quadratic", "vertex", "r_squared")]
    assert found == pytest.approx([3, -2, 0.25, 4, 1])
    assert trend["direction"] == "rises"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "3 points are fewer than 4"),
        ([2] * 5, "constant"),
        ([1, np.nan, 2, 3], "finite"),
    ],
)
def test_without_a_fit_there_is_a_reason(values, message):
    trend = quadratic_trend(np.arange(len(values)), values)
    assert trend["quadratic"] is None
    assert message in trend["note"]


def test_a_turn_outside_the_curve_is_no_turn():
    assert quadratic_trend(np.arange(5), np.arange(5) ** 2 + 9.0 * np.arange(5))["vertex"] is None


def test_rows_leave_missing_values_out():
    curves = pd.DataFrame(
        {"series": "main", "domain": "math", "monitor": "loss", "step": range(0, 60, 10)}
    ).assign(value=[5, 3, None, 2, 1.5, 1.4])
    rows = trend_rows(curves)
    assert [row["abscissa"] for row in rows] == ["index", "log_step"]
    assert {row["num_checkpoints"] for row in rows} == {5}
    assert all(row["r_squared"] > 0.9 for row in rows)


SEED = 20261125
LOSS = np.array([5.0, 4.0, 3.1, 2.4, 1.8, 1.3, 0.9, 0.6, 0.5, 3.0, 0.4])
# Differences up to the eighth: -1, -.9, -.7, -.6, -.5, -.4, -.3, -.1; median -.55, deviations
# .45, .35, .15, .05, .05, .15, .25, .45; their median .2; limit 8 * 1.4826 * .2 = 2.372.


def test_by_hand():
    assert np.flatnonzero(outliers(LOSS)).tolist() == [9]
    at_the_limit = np.append(LOSS[:9], 0.5 - 0.55 + 8 * 1.4826 * 0.2)
    assert not outliers(at_the_limit - np.eye(10)[9] * 1e-9).any()
    assert outliers(at_the_limit + np.eye(10)[9] * 1e-9)[9]


def test_the_way_back_is_no_outlier_and_of_a_new_level_only_its_first_checkpoint_is():
    noise = np.random.default_rng(SEED).normal(0, 0.1, 30)
    spike, level = noise.copy(), noise.copy()
    spike[20] += 10
    level[20:] -= 10
    assert np.flatnonzero(outliers(spike)).tolist() == [20]
    assert np.flatnonzero(outliers(level)).tolist() == [20]


def test_two_outliers_in_a_row_are_both_called():
    values = np.random.default_rng(SEED).normal(0, 0.1, 30)
    values[20] += 10
    values[21] -= 10
    assert np.flatnonzero(outliers(values)).tolist()[:2] == [20, 21]


def wild_curve():
    random = np.random.default_rng(SEED)
    values = random.normal(size=60).cumsum()
    values[[20, 33, 34, 50]] += np.array([40, -40, 60, 25])
    return values


def test_what_comes_later_changes_nothing():
    values = wild_curve()
    all_at_once = outliers(values)
    assert all_at_once.any()
    for upto in range(1, 60):
        assert (outliers(values[:upto]) == all_at_once[:upto]).all()


@pytest.mark.parametrize("change", [lambda x: 7 - 3 * x, lambda x: x + 1000])
def test_neither_unit_nor_sign_nor_origin_matters(change):
    values = wild_curve()
    assert (outliers(change(values)) == outliers(values)).all()


def test_nothing_is_called_too_early_or_where_nothing_is_known_of_the_noise():
    assert not outliers(np.append(np.zeros(MIN_DIFFERENCES), 9.0)).any()  # one too few
    assert not outliers(np.append(np.zeros(30), 9.0)).any()  # no spread at all
    assert outliers(np.array([])).tolist() == []
    assert outliers(np.array([1.0])).tolist() == [False]


def false_alarms(curves, multiple=8.0):
    """Share of checkpoints called among those where something could be."""
    called = [outliers(curve, mad_multiple=multiple) for curve in curves]
    return float(np.mean([one[MIN_DIFFERENCES + 1 :] for one in called]))


def test_false_alarms_are_as_rare_as_in_the_docstring():
    random = np.random.default_rng(SEED)
    noise = random.normal(size=(600, 35))
    assert false_alarms(noise.cumsum(axis=1)) < 0.003
    assert false_alarms(noise + np.linspace(5, 0, 35)) < 0.003
    assert false_alarms(noise[:200].cumsum(axis=1), multiple=3.0) > 0.02  # the usual multiple


if __name__ == "__main__":  # the figures in the docstring
    noise = np.random.default_rng(SEED).normal(size=(20_000, 35))
    for curves in (noise.cumsum(axis=1), noise + np.linspace(5, 0, 35)):
        print([round(false_alarms(curves, multiple), 5) for multiple in (8.0, 3.0)])


@pytest.mark.parametrize(
    ("accuracy", "onset"),
    [
        ([0, 0, 0, 0.5, 0.8, 0.9, 1.0], 2),
        ([0, 0.5, 0.05, 0.6, 0.8, 0.9, 1.0], 2),  # a fall back to the floor is no sustained rise
        ([0, 0.1, 0.4, 0.6, 0.8, 0.9, 1.0], 1),  # exactly 10 % still counts as low
        ([0, 0, 0, 0, 0, 0, 1.0], 3),  # never fewer than 4 points
        ([0, 0, 1.0], 0),
        ([0.4, 0.4, 0.4, 0.4, 0.4], 0),
        ([0.9, 0.5, 0.3, 0.2, 0.1], 1),
    ],
)
def test_accuracy_onset(accuracy, onset):
    assert accuracy_onset(accuracy) == onset


def test_accuracy_onset_refuses_gaps():
    with pytest.raises(ValueError, match="leave out checkpoints without a score"):
        accuracy_onset([0.1, np.nan, 0.3])
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        accuracy_onset([])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_accuracy_onset_leaves_four_points(accuracy):
    onset = accuracy_onset(accuracy)
    assert onset >= 0
    assert len(accuracy) - onset >= min(4, len(accuracy))


def test_moving_average():
    np.testing.assert_allclose(moving_average([4.0, 2.0, 0.0, 7.0], 2), [4.0, 3.0, 1.0, 3.5])
    np.testing.assert_array_equal(moving_average([4.0, 2.0], 1), [4.0, 2.0])
    assert np.isfinite(moving_average(np.arange(5.0), 10)).all()
    with pytest.raises(ValueError, match="window is 0"):
        moving_average([1.0], 0)
