"""Routing tensors on disk: what is asked for is read, and nothing else."""

import numpy as np
import pytest

from store.tensors import RoutingTensors, load_losses, load_routing, save_routing


def test_losses_are_read_without_the_routing_beside_them(tmp_path):
    path = tmp_path / "math.probe.npz"
    never_read = np.array([{}], dtype=object)  # a pickle, which is refused when it is read
    np.savez(path, sample_ids_N=np.arange(3), losses_N=np.ones(3), routing_weights_NLK=never_read)
    losses = load_losses(path)
    assert losses.sample_ids_N.tolist() == [0, 1, 2]
    assert losses.losses_N.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises((ValueError, KeyError)):
        load_routing(path)


def test_both_ways_of_reading_give_the_same_losses(tmp_path):
    rng = np.random.default_rng(0)
    tensors = RoutingTensors(
        sample_ids_N=np.arange(5),
        routing_weights_NLK=rng.random((5, 2, 4), dtype=np.float32),
        losses_N=rng.random(5),
        num_tokens_N=np.full(5, 3, np.int32),
        num_counted_N=np.full(5, 2, np.int32),
    )
    save_routing(tensors, tmp_path / "x.npz")
    assert np.array_equal(load_losses(tmp_path / "x.npz").losses_N, tensors.losses_N)
    assert np.array_equal(load_routing(tmp_path / "x.npz").losses_N, tensors.losses_N)
