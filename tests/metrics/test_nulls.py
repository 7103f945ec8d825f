import numpy as np
import pytest

from metrics.nulls import null_routing

WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(6), size=(40, 3))


def test_shuffled_samples_keep_every_row_of_every_layer():
    null = null_routing(WEIGHTS, "shuffled_samples", seed=1)
    for layer in range(3):
        assert sorted(map(tuple, null[:, layer])) == sorted(map(tuple, WEIGHTS[:, layer]))
    assert not np.array_equal(null, WEIGHTS)
    # Layers are dealt out independently: hardly a sample keeps all of its rows.
    kept = (null == WEIGHTS).all(axis=-1)
    assert kept.all(axis=1).mean() < 0.1


def test_relabelled_experts_keep_sharpness_alone():
    null = null_routing(WEIGHTS, "relabelled_experts", seed=1)
    assert np.array_equal(np.sort(null, axis=-1), np.sort(WEIGHTS, axis=-1))
    assert null.mean(axis=0) == pytest.approx(np.full((3, 6), 1 / 6), abs=0.08)


def test_seeds_decide_and_kinds_are_known():
    one, other = (null_routing(WEIGHTS, "shuffled_samples", seed=2) for _ in range(2))
    assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="null kind is 'none', expected one of shuffled_samples"):
        null_routing(WEIGHTS, "none", seed=0)
