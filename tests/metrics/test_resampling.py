from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metrics.resampling import bootstrap_interval, matched_test, pearson, permutation_test
from tests.metrics import reference_statistics as reference

pairs = st.integers(4, 6).flatmap(
    lambda num: st.tuples(
        *[
            st.lists(st.integers(-5, 5), min_size=num, max_size=num).filter(
                lambda v: len(set(v)) > 1
            )
            for _ in range(2)
        ]
    )
)


@given(pairs)
@settings(max_examples=20, deadline=None)
def test_exact_p_value_agrees_with_enumeration(pair):
    x, y = np.array(pair[0], float), np.array(pair[1], float)
    assert permutation_test(x, y, seed=0).p_value == pytest.approx(
        reference.exact_permutation_p(x, y)
    )


def test_smallest_p_without_and_with_ties():
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert permutation_test(x, x**1.5, seed=0).smallest_p == 1 / factorial(5)
    tied = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    # Only the place of the single one matters: 4! orders give the largest correlation.
    assert permutation_test(x, tied, seed=0).smallest_p == factorial(4) / factorial(5)


def test_simulated_p_value_matches_the_t_test_and_is_never_zero():
    rng = np.random.default_rng(3)
    x = rng.normal(size=30)
    y = 0.3 * x + rng.normal(size=30)
    simulated = permutation_test(x, y, seed=1, num_permutations=9999)
    assert simulated.p_value == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.02)
    assert permutation_test(x, x, seed=1, num_permutations=99).p_value == 0.01
    assert simulated.smallest_p == 1 / 10_000


def test_seed_decides_the_simulated_orders():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 20))
    first, again, other = (
        permutation_test(x, y, seed=seed, num_permutations=999).p_value for seed in (0, 0, 1)
    )
    assert first == again != other


def test_pearson_of_a_constant_is_zero_and_elsewhere_numpys():
    x = np.array([1.0, 5.0, 2.0, 8.0])
    assert pearson(x, np.full(4, 0.1)) == 0.0
    assert pearson(x, x[::-1]) == pytest.approx(np.corrcoef(x, x[::-1])[0, 1])


def test_bootstrap_interval_covers_a_known_correlation():
    rng = np.random.default_rng(6)
    x = rng.normal(size=400)
    y = 0.8 * x + 0.6 * rng.normal(size=400)
    low, high = bootstrap_interval(x, y, seed=0)
    assert low < 0.8 < high
    assert high - low < 0.12
    assert bootstrap_interval(x, y, seed=0) == (low, high)


def test_bootstrap_gives_up_where_most_resamples_are_constant():
    # A lone one in 4 is missed by a third of the resamples; lone ones in both, by most.
    first, last = np.array([1.0, 0, 0, 0]), np.array([0, 0, 0, 1.0])
    assert bootstrap_interval(first, first, seed=0) is not None
    assert bootstrap_interval(first, last, seed=0, num_bootstrap=500) is None


def test_error_message_for_no_permutations():
    with pytest.raises(ValueError, match="num_permutations is 0; give at least 1"):
        permutation_test(np.arange(9.0), np.arange(9.0), seed=0, num_permutations=0)


def test_every_reassignment_within_a_recipe_is_gone_through():
    rng = np.random.default_rng(0)
    agreement = rng.normal(size=(5, 5))
    recipes = ["base", "wide", "base", "wide", "base"]
    agreement[0, 1] = np.nan  # of two recipes: never read
    found = matched_test(agreement, recipes)
    sums = [
        sum(agreement[i, j] for i, j in zip((*base, *wide), (0, 2, 4, 1, 3), strict=True))
        for base in permutations((0, 2, 4))
        for wide in permutations((1, 3))
    ]
    off = np.abs(np.array(sums) - np.mean(sums))
    assert found.p_value == pytest.approx(np.mean(off >= off[0] - 1e-9))
    assert found.smallest_p == 1 / 12
    own = np.mean([agreement[i, i] for i in range(5)])
    others = [agreement[i, j] for i in (0, 2, 4) for j in (0, 2, 4) if i != j]
    others += [agreement[1, 3], agreement[3, 1]]
    assert found.excess == pytest.approx(own - np.mean(others))


def test_what_all_trainings_share_is_no_link():
    assert matched_test(np.full((4, 4), 2.5), ["base"] * 4).p_value == 1.0
    assert matched_test(np.full((4, 4), 2.5), ["base"] * 4).excess == pytest.approx(0)


def test_a_link_of_either_sign_is_found():
    for sign in (1, -1):
        found = matched_test(sign * 3 * np.eye(6) + 1, ["base"] * 6)
        assert found.p_value == 1 / 720
        assert found.excess == pytest.approx(3 * sign)


def test_many_trainings_are_drawn_and_the_same_each_time():
    agreement = 3 * np.eye(10) + np.random.default_rng(1).normal(size=(10, 10))
    found = matched_test(agreement, ["base"] * 10)
    assert found == matched_test(agreement, ["base"] * 10)
    assert found.p_value == found.smallest_p == 1 / 50_000


def test_it_has_its_level():
    rng = np.random.default_rng(2)
    ps = np.array(
        [
            matched_test(1 + rng.standard_t(2, size=(6, 6)), ["a"] * 3 + ["b"] * 3).p_value
            for _ in range(2000)
        ]
    )
    for level in (0.06, 0.12, 0.3):
        assert (ps <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 2000)


def test_one_training_of_each_recipe_shows_nothing():
    assert matched_test(np.eye(3), ["a", "b", "c"]) is None
    with pytest.raises(ValueError, match="no finite agreement"):
        matched_test(np.full((2, 2), np.nan), ["a", "a"])
