import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.generalization import generalization_steps
from metrics.memorization import NEVER
from tests.metrics.reference import generalization_step

correct_tables = st.integers(2, 12).flatmap(
    lambda num_checkpoints: st.lists(
        st.lists(st.booleans(), min_size=num_checkpoints, max_size=num_checkpoints),
        min_size=1,
        max_size=6,
    )
)


def step_of(pattern, **options):
    """Index of the generalization step of a pattern such as '0011'."""
    correct = [[int(mark) for mark in pattern]]
    return generalization_steps(correct, np.arange(len(pattern)), **options)[0]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("1111111111", 0),
        ("0000000000", NEVER),
        ("0000000001", 9),  # one right answer at the end is a mean of 1
        ("0000111110", 4),  # one error in six: 0.83
        ("0000011110", NEVER),  # one error in five is exactly 0.8, not above
        ("0001011111", 3),  # one error in seven
        ("0001010111", 7),  # two errors are one too many, however high the mean
        ("0000011111", 4),  # the one error spent on the step itself
        ("0000001111", 6),  # four right answers cannot pay for an error
        ("1101111111110111111111", 3),  # two errors at mean 0.91: counts after the first
    ],
)
def test_by_hand(pattern, expected):
    assert step_of(pattern) == expected


def test_start_correct_forbids_spending_the_error_on_the_step_itself():
    assert step_of("0000011111") == 4
    assert step_of("0000011111", start_correct=True) == 5
    assert step_of("0000111110", start_correct=True) == 4
    assert step_of("0001011111", start_correct=True) == 3


def test_bounds_can_be_set():
    assert step_of("0101011111", max_errors=2, min_mean=0.7) == 1
    assert step_of("0101011111", max_errors=0) == 5
    assert step_of("0001110", min_mean=0.7) == 3


@settings(deadline=None, max_examples=100)
@given(correct_tables, st.booleans())
def test_equals_the_slow_twin(table, start_correct):
    steps = [3 * index + 1 for index in range(len(table[0]))]
    found = generalization_steps(table, steps, start_correct=start_correct)
    assert found.dtype == np.int64
    expected = [generalization_step(row, steps, start_correct) for row in table]
    assert found.tolist() == expected


@settings(deadline=None, max_examples=60)
@given(correct_tables)
def test_a_sample_is_generalized_exactly_if_its_last_answers_say_so(table):
    correct = np.array(table)
    found = generalization_steps(correct, np.arange(correct.shape[1]))
    strict = generalization_steps(correct, np.arange(correct.shape[1]), start_correct=True)
    # A right last answer is always enough; the error it spends can only move the step earlier.
    assert (found[correct[:, -1]] != NEVER).all()
    assert ((strict >= found) | (strict == NEVER)).all()
    reached = np.flatnonzero(strict != NEVER)
    assert correct[reached, strict[reached]].all()


@pytest.mark.parametrize("dtype", [bool, int, float])
def test_truth_values_of_any_type_are_read(dtype):
    correct = np.array([[0, 1, 1]], dtype=dtype)
    assert generalization_steps(correct, [10, 20, 30]).tolist() == [20]


@pytest.mark.parametrize("bad", [0.5, np.nan, 2.0])
def test_scores_that_are_not_truth_values_are_refused(bad):
    correct = np.ones((3, 4))
    correct[2, 1] = bad
    with pytest.raises(ValueError, match=rf"found {bad} at sample 2, checkpoint 1; decide what"):
        generalization_steps(correct, np.arange(4))


@pytest.mark.parametrize(
    ("correct", "options", "message"),
    [
        ([True, False], {}, r"\[samples, checkpoints\].*found shape \(2,\)"),
        (np.ones((0, 2)), {}, "at least one sample"),
        (np.ones((1, 2)), {"min_mean": 80}, "below 1, found 80"),
        (np.ones((1, 2)), {"max_errors": -1}, "at least 0, found -1"),
        (np.ones((1, 3)), {}, r"shape \(3,\), found shape \(2,\)"),
    ],
)
def test_user_mistakes_are_explained(correct, options, message):
    with pytest.raises(ValueError, match=message):
        generalization_steps(correct, [0, 10], **options)
