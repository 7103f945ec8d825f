from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metrics.correlations import correlate, holm
from metrics.detrended import detrended_test


def noisy_pair(num_checkpoints, seed=0):
    rng = np.random.default_rng(seed)
    steps = 100 * np.arange(num_checkpoints)
    accuracy = 1 - np.exp(-steps / 800) + 0.03 * rng.normal(size=num_checkpoints)
    return -3 * accuracy + 0.1 * rng.normal(size=num_checkpoints), accuracy, steps


@pytest.mark.parametrize("num_checkpoints", [4, 8, 10, 35])
def test_agrees_with_scipy(num_checkpoints):
    monitor, accuracy, steps = noisy_pair(num_checkpoints)
    result = correlate(monitor, accuracy, steps, seed=0)
    fit = stats.linregress(monitor, accuracy)
    assert result.available
    assert result.num_checkpoints == num_checkpoints
    assert result.pearson == pytest.approx(stats.pearsonr(monitor, accuracy).statistic)
    assert result.spearman == pytest.approx(stats.spearmanr(monitor, accuracy).statistic)
    assert result.linear_r2 == pytest.approx(fit.rvalue**2)
    residual = accuracy - fit.intercept - fit.slope * monitor
    assert result.linear_mse == pytest.approx(np.mean(residual**2))
    assert result.pearson_low <= result.pearson <= result.pearson_high


def test_partial_correlation_is_the_textbook_formula():
    monitor, accuracy, steps = noisy_pair(15)
    log_steps = np.log1p(steps)
    r = np.corrcoef([monitor, accuracy, log_steps])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert correlate(monitor, accuracy, steps, seed=0).partial_pearson == pytest.approx(expected)


def test_detrended_part_is_the_verdict_test():
    monitor, accuracy, steps = noisy_pair(20)
    result = correlate(monitor, accuracy, steps, seed=5)
    verdict = detrended_test(monitor, accuracy, steps, seed=5)
    assert result.difference_p == verdict.p_value < 0.05
    assert result.difference_pearson == verdict.statistic_pearson
    assert result.difference_spearman == verdict.statistic_spearman
    assert result.difference_lag == verdict.lag == 0
    assert result.difference_smallest_p == verdict.smallest_p


def test_trends_alone_correlate_and_the_verdict_abstains():
    steps = np.arange(10) * 100
    result = correlate(np.exp(-steps / 300), 1 - np.exp(-steps / 500), steps, seed=0)
    assert result.pearson < -0.95
    assert result.pearson_p < 0.001
    assert result.difference_p is None
    assert result.difference_note.startswith("cannot tell: the first series is too smooth")


def test_smallest_p_is_printed_by_the_number_of_points():
    values = {num: correlate(*noisy_pair(num), seed=0).smallest_p for num in (4, 5, 8, 9)}
    assert values == {4: 1 / 24, 5: 1 / 120, 8: 1 / 40_320, 9: 1 / 10_000}


@pytest.mark.parametrize(
    ("monitor", "accuracy", "reason"),
    [
        ([1, 2, 3], [0.1, 0.2, 0.3], "3 checkpoints are fewer than 4"),
        ([2, 2, 2, 2], [0, 1, 2, 3], "the monitor is constant"),
        ([0, 1, 2, 3], [0, 0, 0, 0], "the accuracy is constant"),
        ([0, np.nan, np.inf, 3], [0, 1, 2, 3], "the monitor is not finite at 2 of 4 checkpoints"),
    ],
)
def test_what_cannot_be_had_is_none_with_a_reason(monitor, accuracy, reason):
    result = correlate(monitor, accuracy, np.arange(len(monitor)), seed=0)
    assert not result.available
    assert result.note == result.difference_note == f"not available, because {reason}"
    values = [getattr(result, f.name) for f in fields(result) if "float" in str(f.type)]
    assert len(values) == 17
    assert set(values) == {None}


def test_parts_that_are_missing_are_named():
    log_line = np.log1p(np.arange(4) * 10.0)
    result = correlate(log_line, [0.0, 0.0, 0.0, 1.0], np.arange(4) * 10, seed=0)
    assert result.available
    assert result.partial_pearson is None
    assert "no partial correlation: a series is a line in log step" in result.note


def test_mismatched_lengths():
    with pytest.raises(ValueError, match="one value per checkpoint"):
        correlate([1, 2, 3, 4], [1, 2, 3], [0, 1, 2, 3], seed=0)


@given(seed=st.integers(0, 1000), num=st.sampled_from([5, 9, 14]))
@settings(max_examples=15, deadline=None)
def test_invariant_to_the_monitors_unit_and_mirrored_by_its_sign(seed, num):
    monitor, accuracy, steps = noisy_pair(num, seed)
    options = {"seed": 0, "num_permutations": 199, "num_bootstrap": 200}
    plain = correlate(monitor, accuracy, steps, **options)
    scaled = correlate(4 * monitor, accuracy, steps, **options)
    mirrored = correlate(-monitor, accuracy, steps, **options)
    for name in ("pearson", "spearman", "pearson_p", "partial_pearson", "linear_r2", "linear_mse"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name))
    assert mirrored.pearson == pytest.approx(-plain.pearson)
    assert mirrored.pearson_low == pytest.approx(-plain.pearson_high)
    assert mirrored.pearson_p == plain.pearson_p


def test_no_range_where_one_checkpoint_makes_a_series():
    """Without the only point that varies r is not 0, it is not there."""
    result = correlate([0, 0, 0, 1, 0, 0], [0.1, 0.3, 0.2, 0.6, 0.5, 0.4], range(6), seed=0)
    assert result.pearson == pytest.approx(0.655, abs=0.001)
    assert (result.pearson_loo_low, result.pearson_loo_high) == (None, None)
    assert "without one checkpoint a series is constant" in result.note


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    assert holm([None]) == [None]
    with pytest.raises(ValueError, match=r"p-value 1.5 at position 1"):
        holm([0.2, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
@settings(max_examples=50, deadline=None)
def test_holm_is_monotone_and_between_plain_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, value in zip(p_values, adjusted, strict=True):
        assert p <= value <= min(1.0, len(p_values) * p)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
