import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.pairs import draw_distinct, draw_pairs


@pytest.mark.parametrize("num_samples", [2, 3, 7, 50])
def test_pair_numbers_cover_the_upper_triangle_once(num_samples):
    num_pairs = num_samples * (num_samples - 1) // 2
    first_P, second_P = draw_pairs(num_samples, num_pairs, seed=0)
    expected_first, expected_second = np.triu_indices(num_samples, k=1)
    np.testing.assert_array_equal(first_P, expected_first)
    np.testing.assert_array_equal(second_P, expected_second)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 10_000), st.data())
def test_drawn_numbers_are_distinct_and_in_range(num_total, data):
    num_drawn = data.draw(st.integers(1, num_total))
    drawn = draw_distinct(num_total, num_drawn, seed=data.draw(st.integers(0, 99)))
    assert len(drawn) == num_drawn
    assert (np.diff(drawn) > 0).all()
    assert drawn[0] >= 0
    assert drawn[-1] < num_total


@pytest.mark.parametrize("num_drawn", [3, 8])
def test_every_number_is_drawn_equally_often(num_drawn):
    counts = np.zeros(10)
    for seed in range(2000):
        counts[draw_distinct(10, num_drawn, seed)] += 1
    share = num_drawn / 10
    slack = 4.5 * np.sqrt(share * (1 - share) / 2000)
    np.testing.assert_allclose(counts / 2000, share, atol=slack)


def test_a_draw_from_fifty_million_pairs_is_light():
    first_P, second_P = draw_pairs(10_000, 100_000, seed=0)
    assert (first_P < second_P).all()
    assert second_P.max() < 10_000
    # The smaller index of a uniform pair has mean (N - 2) / 3.
    assert first_P.mean() == pytest.approx(3333, abs=40)
