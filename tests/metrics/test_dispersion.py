import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.dispersion import hellinger_spread, routing_variance
from tests.metrics import reference_statistics as reference


def random_routing(num_samples, seed):
    weights = np.random.default_rng(seed).exponential(size=(num_samples, 3, 5))
    return weights / weights.sum(axis=-1, keepdims=True)


@given(num_samples=st.integers(2, 8), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_agree_with_the_pairwise_definitions(num_samples, seed):
    routing = random_routing(num_samples, seed)
    assert hellinger_spread(routing) == pytest.approx(reference.mean_squared_hellinger(routing))
    assert routing_variance(routing) == pytest.approx(reference.total_variance(routing))


def test_identical_samples_have_no_dispersion():
    routing = np.repeat(random_routing(1, seed=0), 6, axis=0)
    assert hellinger_spread(routing) == pytest.approx(0.0, abs=1e-15)
    assert routing_variance(routing) == pytest.approx(0.0, abs=1e-15)


def test_one_expert_each():
    routing = np.repeat(np.eye(4)[:, None, :], 3, axis=1)
    assert hellinger_spread(routing) == pytest.approx(1.0)
    assert routing_variance(routing) == pytest.approx(1 - 1 / 4)


def test_by_hand():
    routing = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    assert hellinger_spread(routing) == pytest.approx(1 - np.sqrt(0.5))
    assert routing_variance(routing) == pytest.approx(2 * 0.25**2)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_order_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    routing = random_routing(6, seed)
    shuffled = routing[rng.permutation(6)][:, rng.permutation(3)][:, :, rng.permutation(5)]
    for measure in (hellinger_spread, routing_variance):
        assert measure(shuffled) == pytest.approx(measure(routing))


def test_one_sample_and_bad_routing():
    with pytest.raises(ValueError, match="at least 2 samples"):
        hellinger_spread(random_routing(1, seed=0))
    assert routing_variance(random_routing(1, seed=0)) == 0.0
    with pytest.raises(ValueError, match="sum"):
        routing_variance(np.full((2, 2, 3), 0.9))
