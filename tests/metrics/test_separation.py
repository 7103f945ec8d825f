import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.separation import (
    AGAINST_EXPECTATION,
    CANNOT_TELL,
    DOES_NOT_MOVE,
    DOES_NOT_TELL_APART,
    TELLS_APART,
    noise_scale,
    separate,
)

STEPS = np.arange(12) * 100
WOBBLE = 0.1 * np.array([1, -1, 1, 1, -1, 1, -1, -1, 1, -1, 1, -1])
FALLS = np.linspace(10, 6, 12) + WOBBLE
FALLS_FURTHER = np.linspace(10, 2, 12) + WOBBLE
RISES = np.linspace(10, 14, 12) + WOBBLE
STAYS = 10 + WOBBLE


@pytest.mark.parametrize(
    ("main", "control", "direction", "verdict"),
    [
        (FALLS, STAYS, -1, TELLS_APART),
        (FALLS, RISES, -1, TELLS_APART),
        (FALLS, FALLS, -1, DOES_NOT_TELL_APART),
        (FALLS, FALLS_FURTHER, -1, DOES_NOT_TELL_APART),
        (FALLS_FURTHER, FALLS, -1, DOES_NOT_TELL_APART),
        (STAYS, FALLS, -1, DOES_NOT_MOVE),
        (STAYS, STAYS, -1, DOES_NOT_MOVE),
        (RISES, STAYS, -1, AGAINST_EXPECTATION),
        (RISES, RISES, -1, AGAINST_EXPECTATION),
        (RISES, STAYS, 0, TELLS_APART),
        (RISES, FALLS, 1, TELLS_APART),
    ],
)
def test_verdicts(main, control, direction, verdict):
    assert separate("pathway distance", main, control, STEPS, direction).verdict == verdict


def test_numbers_and_sentence_by_hand():
    main = [3, 3, 3, 2, 1, 1, 1, 2]
    control = [3, 3, 3, 3, 3, 3, 3, 4]
    result = separate("pathway roughness", main, control, np.arange(8), -1)
    # Deviations from the neighbours' line: 0, .5, 0, -.5, 0, -.5; their median is .25.
    assert result.main_noise == pytest.approx(1.4826 * 0.25 / np.sqrt(1.5))
    # Only one of six deviates (-.5): the median is 0, so the root mean square is taken.
    assert result.control_noise == pytest.approx(np.sqrt(0.25 / 6 / 1.5))
    assert result.main_change == pytest.approx(4 / 3 - 3)
    assert result.control_change == pytest.approx(1 / 3)
    error = np.hypot(result.main_noise, result.control_noise) * np.sqrt(2 / 3)
    assert result.gap == pytest.approx((4 / 3 - 3 - 1 / 3) / error)
    assert (result.main_moves, result.control_moves) == ("falls", "stays")
    assert result.sentence == (
        "pathway roughness tells them apart: it falls in the main series (change -1.667, "
        "noise 0.3) and stays in the control (change +0.3333, noise 0.17); with generalization "
        "it is said that it falls."
    )


def test_a_move_must_exceed_three_standard_errors():
    noise = noise_scale(STAYS, STEPS.astype(float))
    limit = 3 * noise * np.sqrt(2 / 3)
    base = STAYS[-3:].mean() - STAYS[:3].mean()
    for factor, moves in ((0.98, "stays"), (1.02, "rises")):
        shift = np.where(np.arange(12) < 6, 0.0, factor * limit - base)
        result = separate("x", STAYS + shift, STAYS, STEPS, 0)
        assert result.main_noise == pytest.approx(noise, rel=0.5)
        exceeds = abs(result.main_change) > 3 * result.main_noise * np.sqrt(2 / 3)
        assert (result.main_moves != "stays") == exceeds
        if result.main_noise == pytest.approx(noise):
            assert result.main_moves == moves


def test_noise_scale_recovers_the_noise_of_a_curve_on_an_uneven_grid():
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.uniform(1, 5, 4000))
    values = np.sin(steps / 3000) + 0.3 * rng.normal(size=4000)
    assert noise_scale(values, steps) == pytest.approx(0.3, rel=0.05)
    assert noise_scale(0.1 * steps + 7, steps) == 0.0


def test_noiseless_series_have_no_gap_but_a_verdict():
    result = separate("x", np.linspace(0, 1, 8), np.zeros(8), np.arange(8), 1)
    assert result.verdict == TELLS_APART
    assert result.gap is None


@pytest.mark.parametrize(
    ("main", "control", "reason"),
    [
        ([1.0] * 5, [1.0] * 5, "the window has 5 checkpoints, at least 6 are needed"),
        ([1.0] * 8, [np.nan] * 8, "the control series holds a value that is not finite"),
        ([np.inf] * 8, [1.0] * 8, "the main series holds a value that is not finite"),
    ],
)
def test_what_cannot_be_told_is_said(main, control, reason):
    result = separate("x", main, control, np.arange(len(main)), 1)
    assert result.verdict == CANNOT_TELL
    assert result.sentence == f"x: cannot tell, because {reason}."
    assert result.main_change is None


def test_wrong_arguments():
    with pytest.raises(ValueError, match="expected_direction is 2"):
        separate("x", FALLS, STAYS, STEPS, 2)
    with pytest.raises(ValueError, match="one value per checkpoint"):
        separate("x", FALLS, STAYS[1:], STEPS, 1)


@given(
    seed=st.integers(0, 1000), shift=st.sampled_from([0.0, 5.0]), scale=st.sampled_from([0.5, 8.0])
)
@settings(max_examples=25, deadline=None)
def test_units_do_not_matter_and_swapping_mirrors_the_gap(seed, shift, scale):
    rng = np.random.default_rng(seed)
    main = np.linspace(0, rng.normal(), 10) + 0.1 * rng.normal(size=10)
    control = np.linspace(0, rng.normal(), 10) + 0.1 * rng.normal(size=10)
    plain = separate("x", main, control, np.arange(10), -1)
    moved = separate("x", scale * main + shift, scale * control + shift, np.arange(10), -1)
    swapped = separate("x", control, main, np.arange(10), -1)
    assert moved.verdict == plain.verdict
    assert moved.gap == pytest.approx(plain.gap)
    assert swapped.gap == pytest.approx(-plain.gap)
