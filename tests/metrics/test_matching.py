from itertools import permutations

import numpy as np
import pytest

from metrics.matching import matched_test


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


def test_it_keeps_its_level():
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
