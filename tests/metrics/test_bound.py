import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.bound import bound_terms, effective_dimension, gating_features, kernel_features
from tests.metrics import reference_statistics as reference


def random_routing(num_samples, num_layers, num_experts, seed, sharpness=2.0):
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(num_samples, num_layers, num_experts))
    weights = np.exp(logits)
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("shape", [(7, 2, 3), (30, 2, 4), (5, 3, 4)])
@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_agrees_with_the_definition(shape, ridge):
    routing = random_routing(*shape, seed=1)
    targets = np.random.default_rng(2).normal(size=shape[0])
    features = gating_features(routing)
    kernel = reference.gating_kernel(routing)
    np.testing.assert_allclose(features @ features.T, kernel, atol=1e-14)
    terms = bound_terms(features, targets, ridge=ridge, noise_variance=0.3, confidence=0.1)
    expected = reference.bound(kernel, targets, ridge, 0.3, 0.1)
    found = (terms.effective_dimension, terms.bias, terms.variance, terms.noise)
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=1e-9)
    assert terms.total == pytest.approx(sum(expected[1:]))
    assert effective_dimension(features, ridge) == terms.effective_dimension


@pytest.mark.parametrize("ridge", [1e-9, 0.5, 3.0])
def test_closed_forms(ridge):
    num = 12
    assert effective_dimension(np.eye(num), ridge) == pytest.approx(num / (1 + ridge))
    uniform = np.full((num, 3, 4), 0.25)
    expected = (num / 4) / (num / 4 + ridge)
    assert effective_dimension(gating_features(uniform), ridge) == pytest.approx(expected)
    # Samples sent to one of r experts in equal numbers: r eigenvalues of num / r.
    for rank in (1, 2, 3, 4):
        routing = np.eye(4)[np.arange(num) % rank][:, None, :]
        expected = num / (num / rank + ridge)
        assert effective_dimension(gating_features(routing), ridge) == pytest.approx(expected)


def test_zero_kernel_and_rank_limit():
    assert effective_dimension(np.zeros((5, 3)), 1e-12) == 0.0
    rank_two = np.random.default_rng(0).normal(size=(50, 2)) @ np.ones((2, 20)).cumsum(axis=1)
    assert effective_dimension(rank_two, 1e-9) == pytest.approx(1.0)
    basis = np.random.default_rng(1).normal(size=(50, 2)) @ np.random.default_rng(2).normal(
        size=(2, 20)
    )
    assert effective_dimension(basis, 1e-9) == pytest.approx(2.0)


@given(seed=st.integers(0, 1000), num_samples=st.integers(2, 15))
@settings(max_examples=25, deadline=None)
def test_monotone_in_ridge_and_bounded(seed, num_samples):
    routing = random_routing(num_samples, 2, 4, seed)
    features = gating_features(routing)
    targets = np.random.default_rng(seed).normal(size=num_samples)
    rows = [
        bound_terms(features, targets, ridge=ridge, noise_variance=1.0)
        for ridge in (0.01, 0.1, 1.0, 10.0)
    ]
    dimensions = [row.effective_dimension for row in rows]
    assert 0 < dimensions[-1] < dimensions[0] <= min(features.shape)
    assert (np.diff(dimensions) < 0).all()
    assert (np.diff([row.bias for row in rows]) >= 0).all()
    assert rows[-1].bias <= np.mean(targets**2)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_order_of_samples_layers_and_experts_does_not_matter(seed):
    routing = random_routing(9, 3, 4, seed)
    rng = np.random.default_rng(seed)
    shuffled = routing[rng.permutation(9)][:, rng.permutation(3)][:, :, rng.permutation(4)]
    assert effective_dimension(gating_features(shuffled), 0.1) == pytest.approx(
        effective_dimension(gating_features(routing), 0.1), abs=1e-12
    )
    doubled_layers = np.concatenate([routing, routing], axis=1)
    assert effective_dimension(gating_features(doubled_layers), 0.1) == pytest.approx(
        effective_dimension(gating_features(routing), 0.1), abs=1e-12
    )


@pytest.mark.parametrize("ridge", [0.0, -1.0, np.nan, np.inf])
def test_ridge_must_be_positive(ridge):
    with pytest.raises(ValueError, match=r"ridge is .*; give a positive finite value"):
        effective_dimension(np.eye(2), ridge)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets_NC": [1.0]}, r"targets have shape \(1,\); expected 2"),
        ({"targets_NC": [1.0, np.nan]}, "expected 2 finite values"),
        ({"noise_variance": -1.0}, "noise_variance is -1.0"),
        ({"confidence": 1.0}, r"confidence is 1.0; give a probability in \(0, 1\)"),
        ({"features_NF": np.eye(2)[0]}, "expected a finite matrix"),
        ({"features_NF": np.full((2, 2), np.nan)}, "expected a finite matrix"),
    ],
)
def test_error_messages(change, message):
    arguments = {"features_NF": np.eye(2), "targets_NC": [1.0, 2.0], "noise_variance": 1.0} | change
    with pytest.raises(ValueError, match=message):
        bound_terms(ridge=1.0, **arguments)


def test_float32_routing_is_computed_in_float64():
    routing = random_routing(40, 4, 8, seed=3).astype(np.float32)
    features = gating_features(routing)
    assert features.dtype == np.float64
    kernel = reference.gating_kernel(routing.astype(np.float64))
    expected = reference.bound(kernel, np.zeros(40), 0.01, 0, 0.5)[0]
    assert effective_dimension(features, 0.01) == pytest.approx(expected, abs=1e-9)


def test_features_of_a_kernel_give_it_back():
    routing = random_routing(9, 2, 3, seed=4)
    kernel = reference.gating_kernel(routing)  # 9 samples, at most 6 dimensions
    features = kernel_features(kernel)
    np.testing.assert_allclose(features @ features.T, kernel, atol=1e-12)
    for ridge in (0.01, 1.0):
        expected = effective_dimension(gating_features(routing), ridge)
        assert effective_dimension(features, ridge) == pytest.approx(expected)


def test_rounding_of_a_float32_kernel_is_forgiven_and_more_is_not():
    kernel = reference.gating_kernel(random_routing(9, 2, 3, seed=4))
    noise = np.random.default_rng(0).normal(size=kernel.shape)
    rounded = kernel + 1e-7 * noise
    assert np.linalg.eigvalsh((rounded + rounded.T) / 2).min() < 0
    features = kernel_features(rounded)
    np.testing.assert_allclose(features @ features.T, kernel, atol=1e-5)
    with pytest.raises(ValueError, match="not a finite symmetric matrix"):
        kernel_features(kernel + 1e-3 * noise)
    with pytest.raises(ValueError, match=r"has an eigenvalue of -\S+, expected none below 0"):
        kernel_features(kernel + 1e-2 * (noise + noise.T))
    with pytest.raises(ValueError, match="not a finite symmetric matrix"):
        kernel_features(np.full((2, 2), np.nan))
