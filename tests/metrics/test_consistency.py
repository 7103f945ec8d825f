import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.consistency import consecutive_cosines, pathway_consistency, summarize_consistency
from tests.metrics.reference import cosines, embedding, random_routing, roughness


def random_routers(seed, num_layers=3, num_experts=5, hidden_size=7):
    rng = np.random.default_rng(seed)
    # A common offset makes most cosines positive, as in trained routers.
    return rng.normal(size=(num_layers, num_experts, hidden_size)) + 0.7


# Hidden sizes below, between and above K and 2 K all take the same code but not the same basis.
cases = st.tuples(st.integers(0, 5000), st.integers(2, 5), st.integers(2, 6), st.integers(2, 20))


def build(case, num_samples=4):
    seed, num_layers, num_experts, hidden_size = case
    routing = random_routing(seed, num_samples, num_layers, num_experts)
    return routing, random_routers(seed + 1, num_layers, num_experts, hidden_size)


def test_by_hand():
    # Embeddings (1, 0), (1, 0), (1/2, 1/2): cosines 1 and sqrt(1/2).
    routing = np.array([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]])
    routers = np.broadcast_to(np.eye(2), (3, 2, 2))
    scores = pathway_consistency(routing, routers)
    assert scores.mean_cosine_N[0] == pytest.approx((1 + np.sqrt(0.5)) / 2)
    assert scores.max_cosine_N[0] == pytest.approx(1.0)
    assert scores.roughness_N[0] == pytest.approx(1 - (1 + np.sqrt(0.5)) / 2, abs=1e-7)
    assert scores.consistency_N[0] == 1 - scores.roughness_N[0]
    assert scores.ill_conditioned_N.tolist() == [False]


@settings(deadline=None, max_examples=80)
@given(cases, st.booleans())
def test_equals_the_slow_twin(case, centred):
    routing, routers = build(case)
    scores = pathway_consistency(routing, routers, centred=centred)
    for sample, weights_LK in enumerate(routing):
        expected = cosines(weights_LK, routers, centred)
        assert scores.mean_cosine_N[sample] == pytest.approx(np.mean(expected), abs=1e-9)
        assert scores.max_cosine_N[sample] == pytest.approx(max(expected), abs=1e-9)
        if max(expected) > 0.01:
            assert scores.roughness_N[sample] == pytest.approx(roughness(expected), abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(cases, st.booleans())
def test_cosines_are_those_of_the_embeddings(case, centred):
    routing, routers = build(case)
    embeddings = np.array(
        [
            [embedding(*pair, centred) for pair in zip(sample, routers, strict=True)]
            for sample in routing
        ]
    )
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    np.testing.assert_allclose(
        consecutive_cosines(routing, routers, centred=centred),
        (unit[:, :-1] * unit[:, 1:]).sum(axis=-1),
        atol=1e-9,
    )


@settings(deadline=None, max_examples=40)
@given(cases, st.booleans())
def test_blind_to_expert_names_router_scale_and_rotation(case, centred):
    routing, routers = build(case)
    rng = np.random.default_rng(case[0])
    expected = consecutive_cosines(routing, routers, centred=centred)

    order = rng.permutation(routing.shape[-1])
    routing_renamed, routers_renamed = routing.copy(), routers.copy()
    routing_renamed[:, 0], routers_renamed[0] = routing[:, 0][:, order], routers[0][order]
    renamed = consecutive_cosines(routing_renamed, routers_renamed, centred=centred)
    np.testing.assert_allclose(renamed, expected, atol=1e-9)

    scales = rng.uniform(0.01, 100, size=(len(routers), 1, 1))
    scaled = consecutive_cosines(routing, routers * scales, centred=centred)
    np.testing.assert_allclose(scaled, expected, atol=1e-9)

    rotation = np.linalg.qr(rng.normal(size=(routers.shape[-1],) * 2)).Q
    rotated = consecutive_cosines(routing, routers @ rotation, centred=centred)
    np.testing.assert_allclose(rotated, expected, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(cases)
def test_only_the_centred_variant_ignores_a_common_vector(case):
    routing, routers = build(case)
    shifted = routers.copy()
    shifted[0] += 3.0 * np.arange(1, routers.shape[-1] + 1)
    np.testing.assert_allclose(
        consecutive_cosines(routing, shifted, centred=True),
        consecutive_cosines(routing, routers, centred=True),
        atol=1e-8,
    )
    plain = consecutive_cosines(routing, routers)
    assert np.abs(consecutive_cosines(routing, shifted) - plain).max() > 1e-6


def test_equal_embeddings_are_perfectly_smooth():
    # Many samples: without clipping, rounding puts some of these cosines above 1.
    routing = np.broadcast_to(random_routing(0, 500, 1, 6), (500, 4, 6))
    routers = np.broadcast_to(random_routers(1, 1, 6, 9), (4, 6, 9))
    scores = pathway_consistency(routing, routers)
    np.testing.assert_allclose(scores.mean_cosine_N, 1.0)
    np.testing.assert_allclose(scores.roughness_N, 0.0, atol=1e-7)
    assert (scores.max_cosine_N <= 1.0).all()


def test_two_layers_are_always_smooth_which_is_why_three_are_needed():
    scores = pathway_consistency(random_routing(2, 20, 2, 5), random_routers(3, 2, 5, 8))
    np.testing.assert_allclose(scores.roughness_N, 0.0, atol=1e-6)


@pytest.mark.parametrize("num_experts", [4, 6, 7])
def test_uniform_routing_has_centred_cosine_zero_not_noise(num_experts):
    routing = np.full((3, 3, num_experts), 1 / num_experts)
    routers = random_routers(4, 3, num_experts, 30)
    assert consecutive_cosines(routing, routers, centred=True).tolist() == [[0.0, 0.0]] * 3
    assert (consecutive_cosines(routing, routers) > 0.1).all()
    assert consecutive_cosines(routing, np.zeros_like(routers)).tolist() == [[0.0, 0.0]] * 3


def test_nearly_uniform_routing_has_the_same_centred_cosine():
    rng = np.random.default_rng(5)
    tilt = rng.normal(size=(4, 3, 6)) * 1e-7
    routing = 1 / 6 + tilt - tilt.mean(axis=-1, keepdims=True)
    routers = random_routers(6, 3, 6, 30)
    exact = (routing - 1 / 6) * 1e5 + 1 / 6
    np.testing.assert_allclose(
        consecutive_cosines(routing, routers, centred=True),
        consecutive_cosines(exact, routers, centred=True),
        atol=1e-6,
    )


def test_ill_conditioned_samples_are_marked_and_counted():
    # The router turns by the same angle from layer to layer; one expert takes all.
    def turned(angle):
        angles = np.arange(3) * angle
        return np.stack([np.cos(angles), np.sin(angles)], axis=-1)[:, np.newaxis, :]

    routing = np.ones((1, 3, 1))
    for cosine, expected in ((0.06, False), (0.04, True), (-0.5, True)):
        scores = pathway_consistency(routing, turned(np.arccos(cosine)))
        assert scores.max_cosine_N[0] == pytest.approx(cosine)
        assert scores.ill_conditioned_N.tolist() == [expected]
        assert summarize_consistency(scores).num_ill_conditioned == int(expected)


def test_summary_by_hand():
    scores = pathway_consistency(random_routing(7, 5, 4, 6), random_routers(8, 4, 6, 10))
    summary = summarize_consistency(scores)
    values = sorted(scores.roughness_N.tolist())
    assert summary.median_roughness == values[2]
    assert summary.mean_roughness == pytest.approx(sum(values) / 5)
    assert summary.mean_consistency == pytest.approx(1 - summary.mean_roughness)
    assert summary.median_consistency == pytest.approx(1 - summary.median_roughness)
    assert summary.mean_cosine == pytest.approx(sum(scores.mean_cosine_N.tolist()) / 5)
    assert summary.num_samples == 5


def test_user_mistakes_are_explained():
    with pytest.raises(ValueError, match="consecutive layers and needs at least 2, found 1"):
        pathway_consistency(random_routing(0, 2, 1, 5), random_routers(0, 1, 5, 3))
    with pytest.raises(ValueError, match=r"\[3 layers, 5 experts, hidden size\].*\(3, 4, 3\)"):
        pathway_consistency(random_routing(0, 2, 3, 5), random_routers(0, 3, 4, 3))
    with pytest.raises(ValueError, match="must sum to 1"):
        pathway_consistency(2 * random_routing(0), random_routers(0))
