import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.grokking import (
    NEVER,
    choose_epsilon,
    earliest_steps,
    generalization_steps,
    memorization_steps,
    scan_row,
)
from tests.metrics.reference import (
    generalization_step,
    memorization_step,
    share_memorized_before_end,
)

STEPS = [0, 10, 20, 30, 40]


def random_losses(seed, num_samples=20, num_checkpoints=6):
    """Losses on a grid of 0.05 that fall, settle, and sometimes jump."""
    rng = np.random.default_rng(seed)
    floor_N1 = rng.uniform(0, 3, size=(num_samples, 1))
    speed_N1 = rng.uniform(0.2, 3, size=(num_samples, 1))
    noise_NT = rng.normal(scale=0.03, size=(num_samples, num_checkpoints))
    losses_NT = floor_N1 + 4 * np.exp(-speed_N1 * np.arange(num_checkpoints)) + noise_NT
    return np.round(np.abs(losses_NT) / 0.05) * 0.05


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([5.0, 1.0, 1.0, 1.0, 1.0], 10),  # falls and stays
        ([5.0, 1.0, 5.0, 1.0, 1.0], 30),  # forgotten once: counts from the return
        ([1.6, 1.5, 1.4, 1.3, 1.0], 40),  # low but still moving: only the end counts
        ([5.0, 3.0, 3.0, 3.0, 3.0], NEVER),  # settled too high
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0),  # from the first checkpoint on
        ([1.0, 1.0, 1.0, 1.0, 9.0], NEVER),  # lost at the end
        ([2.0, 2.0, 2.0, 2.0, 2.0], 0),  # exactly epsilon is low enough
        ([5.0, 1.25, 1.0, 1.0, 1.0], 10),  # exactly delta is near enough
        ([5.0, 0.5, 1.0, 1.0, 1.0], 20),  # below the final loss is a distance too
    ],
)
def test_by_hand(losses, expected):
    assert memorization_steps([losses], STEPS, epsilon=2.0, delta=0.25).tolist() == [expected]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 5000), st.sampled_from([0.1, 0.9, 2.0]), st.sampled_from([0.0, 0.04, 0.3]))
def test_equals_the_slow_twin(seed, epsilon, delta):
    losses_NT = random_losses(seed)
    steps = [0, 5, 7, 30, 31, 90]
    found = memorization_steps(losses_NT, steps, epsilon, delta)
    assert found.dtype == np.int64
    expected = [memorization_step(row, steps, epsilon, delta) for row in losses_NT.tolist()]
    assert found.tolist() == expected


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5000))
def test_looser_bounds_memorize_no_later(seed):
    losses_NT = random_losses(seed)
    steps = np.arange(6)
    tight = memorization_steps(losses_NT, steps, 1.0, 0.05)
    for epsilon, delta in ((1.5, 0.05), (1.0, 0.2)):
        loose = memorization_steps(losses_NT, steps, epsilon, delta)
        assert ((loose <= tight) | (tight == NEVER)).all()
        assert (loose[tight != NEVER] != NEVER).all()


def scanned(losses_NT, steps, delta, low, high, num_steps):
    """The scan as the text describes it, one epsilon after the other."""
    rows = []
    for i in range(1, num_steps + 1):
        epsilon = round(i * 0.1, 10)
        share = share_memorized_before_end(losses_NT, steps, epsilon, delta)
        if low <= share <= high:
            return epsilon, share, True
        rows.append((max(low - share, share - high), epsilon, share))
    return *min(rows)[1:], False


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 5000), st.sampled_from([(0.2, 0.25), (0.5, 0.5), (0.9, 1.0), (0.0, 0.05)]))
def test_epsilon_equals_the_slow_scan(seed, share_range):
    losses_NT = random_losses(seed)
    steps = [0, 5, 7, 30, 31, 90]
    low, high = share_range
    choice = choose_epsilon(losses_NT, steps, 0.05, share_low=low, share_high=high)
    expected = scanned(losses_NT.tolist(), steps, 0.05, low, high, num_steps=75)
    assert (choice.epsilon, choice.share, choice.in_range) == expected


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5000))
def test_the_chosen_share_is_the_one_that_memorization_finds(seed):
    losses_NT = random_losses(seed)
    steps = np.arange(6)
    choice = choose_epsilon(losses_NT, steps)
    found = memorization_steps(losses_NT, steps, choice.epsilon)
    assert choice.share == np.mean((found != NEVER) & (found < 5))


def settled_at(levels):
    return [[9.0, level, level] for level in levels]


def test_the_first_epsilon_in_range_wins():
    choice = choose_epsilon(settled_at([0.25, 0.55, 1.0, 1.5, 2.0]), [0, 10, 20])
    assert (choice.epsilon, choice.share, choice.in_range) == (0.3, 0.2, True)
    assert choice.note == (
        "20.0 % of 5 samples are memorized before the final checkpoint at epsilon 0.3"
    )


def test_the_nearest_epsilon_stands_in_with_a_note():
    # Shares jump from 0 over 1/3: |0.2 - 0| = 0.2 is further than |1/3 - 0.25|.
    choice = choose_epsilon(settled_at([0.35, 0.75, 1.5]), [0, 10, 20])
    assert (choice.epsilon, choice.in_range) == (0.4, False)
    assert choice.note == (
        "33.3 % of 3 samples are memorized before the final checkpoint at epsilon 0.4; "
        "no epsilon from 0.1 to 1.5 in increments of 0.1 reaches 20 to 25 %, this is the nearest"
    )


def test_of_two_as_near_the_smaller_wins():
    # Shares 1/4 and 3/4 are both 1/4 away from 1/2.
    losses = settled_at([0.15, 0.55, 0.55, 3.0])
    choice = choose_epsilon(losses, [0, 10, 20], share_low=0.5, share_high=0.5)
    assert (choice.epsilon, choice.share, choice.in_range) == (0.2, 0.25, False)


def test_a_domain_memorized_at_the_smallest_epsilon_is_reported_as_such():
    choice = choose_epsilon(settled_at([0.01, 0.01, 0.02]), [0, 10, 20])
    assert (choice.epsilon, choice.share, choice.in_range) == (0.1, 1.0, False)
    assert "no epsilon from 0.1 to 0.1" in choice.note


def test_samples_that_never_settle_leave_a_share_of_zero():
    choice = choose_epsilon([[3.0, 2.0, 1.0], [4.0, 2.0, 1.0]], [0, 10, 20])
    assert (choice.epsilon, choice.share, choice.in_range) == (0.1, 0.0, False)


def test_the_scan_reaches_a_loss_a_rounding_error_above_a_multiple():
    losses = settled_at([0.29, 29 * 0.1, 5.0, 5.0])
    assert 29 * 0.1 > 2.9
    losses[2][1] = losses[3][1] = 9.0  # these two never settle
    choice = choose_epsilon(losses, [0, 10, 20], share_low=0.5, share_high=0.5)
    assert (choice.epsilon, choice.share, choice.in_range) == (3.0, 0.5, True)


def test_the_scan_ends_at_max_epsilon():
    losses = settled_at([0.95, 2.0, 3.0, 4.0])
    assert choose_epsilon(losses, [0, 10, 20]).epsilon == 1.0
    limited = choose_epsilon(losses, [0, 10, 20], max_epsilon=0.75)
    assert (limited.epsilon, limited.share) == (0.1, 0.0)
    assert "from 0.1 to 0.7 " in limited.note
    exact = choose_epsilon(settled_at([0.3, 2.0, 3.0, 4.0]), [0, 10, 20], max_epsilon=0.3)
    assert (exact.epsilon, exact.in_range) == (0.3, True)


def test_earliest_steps():
    reached = np.array([[False, True, False], [False, False, False], [True, True, True]])
    steps_N = earliest_steps(reached, np.array([5, 6, 9]))
    assert steps_N.tolist() == [6, NEVER, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": -1.0}, "epsilon must be a finite number of nats, at least 0, found -1.0"),
        ({"epsilon": 1.0, "delta": float("nan")}, r"delta must be a finite .* found nan"),
    ],
)
def test_bad_bounds_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        memorization_steps(random_losses(0), np.arange(6), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share_low": 20, "share_high": 25}, "found 20 and 25; pass shares, not percentages"),
        ({"share_low": 0.5}, "share_low <= share_high"),
        ({"increment": 0.0}, "positive number of nats, found 0.0"),
        ({"max_epsilon": 0.05}, r"at least one increment \(0\.1\), found 0\.05"),
    ],
)
def test_scans_without_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose_epsilon(random_losses(0), np.arange(6), **arguments)


def test_losses_that_are_not_finite_are_refused():
    losses_NT = random_losses(0)
    losses_NT[3, 2] = np.inf
    for call in (
        lambda: memorization_steps(losses_NT, np.arange(6), 1.0),
        lambda: choose_epsilon(losses_NT, np.arange(6)),
    ):
        with pytest.raises(ValueError, match="found inf at sample 3, checkpoint 2"):
            call()
    with pytest.raises(ValueError, match="at least 2 checkpoints are needed, found 1"):
        memorization_steps([[1.0]], [0], 1.0)


def test_scan_rows_by_hand():
    losses = [
        [5.0, 1.9, 1.8, 1.8],  # from step 10 on at epsilon 2, if delta allows 0.1
        [5.0, 1.5, 1.5, 1.5],  # from step 10 on
        [5.0, 4.0, 1.0, 1.0],  # from step 20 on
        [5.0, 4.0, 3.0, 1.0],  # at the last checkpoint only, which compares a loss with itself
        [5.0, 5.0, 5.0, 5.0],  # never
    ]
    steps = [0, 10, 20, 30]
    row = scan_row(losses, steps, 2.0, 0.2)
    assert row == {
        "epsilon": 2.0,
        "delta": 0.2,
        "share_memorized": 3 / 5,
        "num_groups": 3,
        "median_step": 15.0,
    }
    assert scan_row(losses, steps, 2.0, 0.05)["median_step"] == 20  # 20, 10, 20, 30
    assert scan_row(losses, steps, 1.2, 0.05)["share_memorized"] == 1 / 5
    never = scan_row(losses, steps, 0.5, 0.05)
    assert [never[name] for name in ("share_memorized", "num_groups", "median_step")] == [
        0,
        0,
        None,
    ]


def test_a_wider_epsilon_or_delta_never_memorizes_fewer():
    losses_NT = random_losses(1)
    shares = np.array(
        [
            [
                scan_row(losses_NT, np.arange(6), epsilon, delta)["share_memorized"]
                for epsilon in (0.5, 1.0, 1.5, 2.0, 5.0)
            ]
            for delta in (0.03, 0.05, 0.5, 2.0)
        ]
    )
    assert (np.diff(shares, axis=0) >= 0).all()
    assert (np.diff(shares, axis=1) >= 0).all()
    assert shares[0, 0] < shares[-1, -1]


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
def test_by_hand_of_generalization(pattern, expected):
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
def test_equals_the_slow_twin_of_generalization(table, start_correct):
    steps = [3 * index + 1 for index in range(len(table[0]))]
    found = generalization_steps(table, steps, start_correct=start_correct)
    assert found.dtype == np.int64
    expected = [generalization_step(row, steps, start_correct) for row in table]
    assert found.tolist() == expected


@settings(deadline=None, max_examples=60)
@given(correct_tables)
def test_a_sample_is_generalized_exactly_by_its_last_answers(table):
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
