import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.separation import (
    AGAINST_EXPECTATION,
    CANNOT_TELL,
    DIFFERS,
    DOES_NOT_MOVE,
    MOVES_FURTHER_IN_CONTROL,
    NO_DIFFERENCE,
    change_with_error,
    false_positive_rates,
    separate,
    wobble,
)

STEPS = np.arange(12) * 100
WOBBLE = 0.1 * np.array([1, -1, 1, 1, -1, 1, -1, -1, 1, -1, 1, -1])
OTHER_WOBBLE = WOBBLE[::-1]
FALLS = np.linspace(10, 6, 12) + WOBBLE
FALLS_TOO = np.linspace(10, 6, 12) + OTHER_WOBBLE
FALLS_FURTHER = np.linspace(10, 2, 12) + OTHER_WOBBLE
RISES = np.linspace(10, 14, 12) + OTHER_WOBBLE
STAYS = 10 + OTHER_WOBBLE


@pytest.mark.parametrize(
    ("main", "control", "direction", "verdict"),
    [
        (FALLS, STAYS, -1, DIFFERS),
        (FALLS, RISES, -1, DIFFERS),
        (FALLS_FURTHER, FALLS, -1, DIFFERS),
        (FALLS, FALLS_TOO, -1, NO_DIFFERENCE),
        (FALLS, FALLS_FURTHER, -1, MOVES_FURTHER_IN_CONTROL),
        (STAYS, FALLS, -1, DOES_NOT_MOVE),
        (STAYS, STAYS, -1, DOES_NOT_MOVE),
        (RISES, STAYS, -1, AGAINST_EXPECTATION),
        (RISES, RISES, -1, AGAINST_EXPECTATION),
        (RISES, 10 + WOBBLE, 0, DIFFERS),
        (RISES, FALLS, 1, DIFFERS),
    ],
)
def test_verdicts(main, control, direction, verdict):
    assert separate("pathway distance", main, control, STEPS, direction).verdict == verdict


def test_significant_here_and_not_there_is_no_difference():
    """As in chemistry of the nano study: -.0147 and -.0104 were separated, at 0.7 errors."""
    rng = np.random.default_rng(7)
    main = np.linspace(0, -0.0147, 30) + 0.0015 * rng.normal(size=30)
    control = np.linspace(0, -0.0120, 30) + 0.0052 * rng.normal(size=30)
    found = separate("x", main, control, np.arange(30), -1)
    assert (found.main_moves, found.control_moves) == ("falls", "stays")
    assert found.verdict == NO_DIFFERENCE
    assert abs(found.graded) < 3


def test_numbers_by_hand():
    # Without slope; one, two and three checkpoints apart it differs by 1 and 0 in turns.
    scale, autocorrelation = wobble(np.array([0.0, 1.0] * 6))
    assert (scale, autocorrelation) == (pytest.approx(np.sqrt(1 / 2)), 0.0)
    change, error = change_with_error(np.array([0.0, 1.0] * 6))
    assert change == pytest.approx(2 / 3 - 1 / 3)
    assert error == pytest.approx(np.sqrt(1 / 2) * np.sqrt(2 / 3))
    # A straight line has no wobble, whatever its slope.
    assert wobble(3.0 * np.arange(12)) == (0.0, 0.0)
    assert change_with_error(3.0 * np.arange(12)) == (pytest.approx(27.0), 0.0)


@pytest.mark.parametrize("autocorrelation", [0.0, 0.5, 0.8])
def test_the_wobble_of_a_long_series_is_recovered(autocorrelation):
    rng = np.random.default_rng(0)
    values = np.empty(20_000)
    last = 0.0
    for at, shock in enumerate(rng.normal(size=len(values))):
        last = values[at] = autocorrelation * last + np.sqrt(1 - autocorrelation**2) * shock
    scale, found = wobble(2.0 * values + 0.01 * np.arange(len(values)))
    assert found == pytest.approx(autocorrelation, abs=0.05)
    assert scale == pytest.approx(2.0, rel=0.07)


def test_the_sentence_has_the_numbers():
    found = separate("pathway distance", FALLS, STAYS, STEPS, -1)
    assert found.sentence == (
        "pathway distance: differs in these two runs. It falls in the main series (-3.339 ± 0.12) "
        "and stays in the control (+0.06667 ± 0.12); the difference is -3.406 ± 0.23; with "
        "generalization it is said that it falls."
    )
    assert found.graded == pytest.approx(-3.406 / 0.23, rel=0.02)


def test_false_positive_rates_stay_as_on_the_page():
    rates = {r["family"]: r["rate"] for r in false_positive_rates(20, num_pairs=300, seed=1)}
    assert rates["white noise"] <= 0.02
    assert rates["the same change in both, white noise"] <= 0.02
    assert rates["AR(1), 0.7"] <= 0.10
    assert rates["the same change in both, AR(1), 0.7"] <= 0.10
    assert rates["random walk"] > 0.10  # what the page warns of


def test_noiseless_series_have_no_gap_but_a_verdict():
    result = separate("x", np.linspace(0, 1, 8), np.zeros(8), np.arange(8), 1)
    assert result.verdict == DIFFERS
    assert result.graded is None


@pytest.mark.parametrize(
    ("main", "control", "reason"),
    [
        ([1.0] * 5, [1.0] * 5, "the window has 5 checkpoints, at least 6 are needed"),
        ([1.0] * 8, [np.nan] * 8, "the control series holds a value that is not finite"),
        ([np.inf] * 8, [1.0] * 8, "the main series holds a value that is not finite"),
    ],
)
def test_without_a_verdict_there_is_a_reason(main, control, reason):
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
    assert moved.graded == pytest.approx(plain.graded)
    assert swapped.graded == pytest.approx(-plain.graded)
