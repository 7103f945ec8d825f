import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.calibration import NANO_STEPS, even_steps
from metrics.detrended import (
    MIN_CHECKPOINTS,
    SECOND_ORDER_FROM,
    DetrendedTest,
    detrended_test,
    is_too_smooth,
)


def sharing(num_checkpoints, seed, size=0.05):
    rng = np.random.default_rng(seed)
    steps = np.array(even_steps(num_checkpoints), float)
    fluctuation = size * rng.normal(size=num_checkpoints)
    x = 1 - np.exp(-steps / steps[-1] * 4) + fluctuation
    y = 1 - np.exp(-steps / steps[-1] * 2) + fluctuation + 0.1 * size * rng.normal(size=len(steps))
    return x, y, steps


def test_finds_shared_fluctuations():
    result = detrended_test(*sharing(30, seed=0), seed=0)
    assert result.p_value == result.smallest_p == 1 / 10_000
    assert result.statistic_pearson > 0.9
    assert result.statistic_spearman > 0.9
    assert result.lag == 0
    assert result.num_differences == 28
    assert result.note == ""
    assert result.p_value is not None


@pytest.mark.parametrize("steps", [even_steps(10), even_steps(20), even_steps(35), NANO_STEPS])
def test_two_smooth_curves_correlate_and_the_test_abstains(steps):
    steps = np.array(steps, float)
    x, y = (1 - np.exp(-steps / steps[-1] * rate) for rate in (2.0, 3.0))
    assert np.corrcoef(x, y)[0, 1] > 0.98
    result = detrended_test(x, y, steps, seed=0)
    assert result.p_value is None
    assert result.note.startswith("cannot tell: the first series is too smooth")


def test_too_few_checkpoints():
    result = detrended_test(*sharing(MIN_CHECKPOINTS - 1, seed=0), seed=0)
    note = "cannot tell: 7 checkpoints, at least 8 are needed"
    assert result == DetrendedTest(None, None, None, None, None, 6, note)


def test_order_of_differencing_follows_the_number_of_checkpoints():
    below = detrended_test(*sharing(SECOND_ORDER_FROM - 1, seed=1), seed=0)
    above = detrended_test(*sharing(SECOND_ORDER_FROM, seed=1), seed=0)
    assert (below.num_differences, above.num_differences) == (10, 10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad):
    x, y, steps = sharing(20, seed=0)
    y[3] = bad
    assert "not finite" in detrended_test(x, y, steps, seed=0).note


@pytest.mark.parametrize("series", [np.full(20, 0.3), 0.1 * np.arange(20) + 0.7])
def test_constants_and_straight_lines_abstain(series):
    x, _, steps = sharing(20, seed=0)
    note = "cannot tell: the second series does not vary around its trend"
    assert detrended_test(x, series, steps, seed=0).note == note


def test_mismatched_and_unordered_input():
    x, y, steps = sharing(20, seed=0)
    with pytest.raises(ValueError, match="one value per checkpoint"):
        detrended_test(x, y[:-1], steps, seed=0)
    with pytest.raises(ValueError, match="strictly increase; sort the checkpoints"):
        detrended_test(x, y, steps[::-1], seed=0)


@given(
    seed=st.integers(0, 10_000),
    num=st.sampled_from([9, 15, 24]),
    scale=st.sampled_from([0.125, 4.0]),
    slope=st.sampled_from([0.0, -0.5, 2.0]),
)
@settings(max_examples=25, deadline=None)
def test_invariant_to_units_and_to_a_straight_trend(seed, num, scale, slope):
    x, y, steps = sharing(num, seed)
    # Multiples of a power of two keep all differences exact, so that ranks cannot flip.
    x, y = np.round(x * 2**20) / 2**20, np.round(y * 2**20) / 2**20
    plain = detrended_test(x, y, steps, seed=0, num_permutations=199)
    moved = detrended_test(
        scale * x + slope * np.arange(num) - 3, y, steps, seed=0, num_permutations=199
    )
    assert moved.p_value == plain.p_value
    assert moved.statistic_spearman == plain.statistic_spearman


@given(seed=st.integers(0, 10_000), num=st.sampled_from([9, 15, 24]))
@settings(max_examples=25, deadline=None)
def test_symmetric_statistics_and_sign(seed, num):
    x, y, steps = sharing(num, seed)
    plain, swapped, mirrored = (
        detrended_test(a, b, steps, seed=0, num_permutations=199)
        for a, b in ((x, y), (y, x), (-x, y))
    )
    assert (plain.p_value is None) == (swapped.p_value is None) == (mirrored.p_value is None)
    if plain.p_value is not None:
        assert mirrored.lag == plain.lag
        assert swapped.lag == (None if plain.lag is None else -plain.lag)
        assert swapped.statistic_spearman == pytest.approx(plain.statistic_spearman)
        assert mirrored.statistic_spearman == pytest.approx(-plain.statistic_spearman)
        assert mirrored.statistic_pearson == pytest.approx(-plain.statistic_pearson)


def test_smoothness_gate_knows_noise_walks_and_curves():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(200, 35))
    curve = np.exp(-np.linspace(0, 3, 35))
    assert np.mean([is_too_smooth(row) for row in noise]) < 0.03
    assert np.mean([is_too_smooth(row) for row in noise.cumsum(axis=1)]) < 0.10
    assert is_too_smooth(curve)
    assert not is_too_smooth(curve + 0.05 * noise[0])


def test_fluctuations_that_shrink_alike_are_no_evidence():
    rng = np.random.default_rng(1)
    steps = np.array(even_steps(35), float)
    size = np.exp(-4 * np.linspace(0, 1, 35))
    p_values = [
        detrended_test(
            *(size * rng.normal(size=(2, 35))), steps, seed=i, num_permutations=199
        ).p_value
        for i in range(600)
    ]
    # Without evening out the sizes 10 % are rejected; 600 pairs at 5 % stay below 8 %.
    assert np.mean([p is not None and p <= 0.05 for p in p_values]) < 0.08
