from itertools import permutations

import numpy as np
import pytest

from metrics.pairing import group_means, group_similarity, pair_groups

RNG = np.random.default_rng(0)
ONE, OTHER = RNG.normal(size=(30, 8)), RNG.normal(size=(25, 8))
GROUPS_ONE, GROUPS_OTHER = np.repeat([10, 20, 30], 10), np.repeat([50, 70, 90, 95, 99], 5)


def test_similarity_is_the_mean_cosine_over_all_pairs():
    found = group_similarity(group_means(ONE, GROUPS_ONE), group_means(OTHER, GROUPS_OTHER))
    for row, p in enumerate((10, 20, 30)):
        for column, q in enumerate((50, 70, 90, 95, 99)):
            a, b = ONE[p == GROUPS_ONE], OTHER[q == GROUPS_OTHER]
            lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
            assert found[row, column] == pytest.approx((a @ b.T / lengths).mean())


def test_the_matching_is_the_best_of_all():
    training, tested = group_means(ONE, GROUPS_ONE), group_means(OTHER, GROUPS_OTHER)
    similarity = group_similarity(training, tested)
    best = max(
        sum(similarity[row, column] for row, column in enumerate(columns))
        for columns in permutations(range(5), 3)
    )
    pairs = pair_groups(training, tested)
    assert sum(pair.similarity for pair in pairs) == pytest.approx(best)
    assert all(pair.delay == pair.generalization_step - pair.memorization_step for pair in pairs)
    assert len({pair.generalization_step for pair in pairs}) == 3


def test_fewer_benchmark_groups_leave_training_groups_unpaired():
    assert len(pair_groups(group_means(OTHER, GROUPS_OTHER), group_means(ONE, GROUPS_ONE))) == 3
    assert pair_groups({}, group_means(ONE, GROUPS_ONE)) == []


def test_a_text_without_a_word_pulls_its_group_to_zero_and_sizes_must_fit():
    assert group_means([[0.0, 0.0], [2.0, 0.0]], [1, 1])[1].tolist() == [0.5, 0.0]
    with pytest.raises(ValueError, match="found 1 embeddings and 2 groups"):
        group_means([[1.0]], [1, 2])
    with pytest.raises(ValueError, match="1 of 2 embeddings are not finite"):
        group_means([[1.0, 0.0], [np.nan, 1.0]], [1, 2])
