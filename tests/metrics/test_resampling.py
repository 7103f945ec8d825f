from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metrics.resampling import bootstrap_interval, pearson, permutation_test
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
