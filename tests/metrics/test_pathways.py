from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.pathways import (
    pathway_lengths,
    pathway_strings,
    pathway_symbols,
    pathways_in_unit,
    routing_entropy,
    select_experts,
)
from tests.metrics.reference import pathway_string, random_routing, selected_experts

routings = st.builds(
    random_routing,
    seed=st.integers(0, 10_000),
    num_samples=st.integers(1, 5),
    num_layers=st.integers(1, 4),
    num_experts=st.integers(1, 12),
    concentration=st.sampled_from([0.05, 0.5, 5.0]),
)
thresholds = st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.8, 0.99])


def chosen(weights_K, threshold):
    order, count = select_experts(np.array([[weights_K]]), threshold)
    return order[0, 0, : count[0, 0]].tolist()


def test_by_hand():
    assert chosen([0.1, 0.6, 0.3], 0.5) == [1]
    assert chosen([0.1, 0.6, 0.3], 0.7) == [1, 2]
    assert chosen([0.1, 0.6, 0.3], 0.95) == [1, 2, 0]


def test_the_threshold_must_be_exceeded_not_met():
    assert chosen([0.5, 0.25, 0.25], 0.5) == [0, 1]
    assert chosen([0.25, 0.25, 0.25, 0.25], 0.75) == [0, 1, 2, 3]
    assert chosen([0.5, 0.25, 0.25], 0.4999) == [0]


def test_ties_go_to_the_lower_expert_id():
    assert chosen([0.2, 0.4, 0.4], 0.7) == [1, 2]
    uniform = np.full((1, 1, 64), 1 / 64)
    assert select_experts(uniform).order_NLK[0, 0].tolist() == list(range(64))
    # Four levels over 256 experts: an unstable sort mixes the ids inside a level.
    levels = np.random.default_rng(0).integers(1, 5, size=(20, 1, 256)).astype(float)
    routing = levels / levels.sum(axis=-1, keepdims=True)
    expected = [pathway_string(sample.tolist(), 0.9) for sample in routing]
    assert pathway_strings(routing, 0.9) == expected


def test_a_row_that_never_exceeds_the_threshold_selects_all_experts():
    assert chosen([0.5, 0.4995], 0.9997) == [0, 1]
    assert pathway_lengths(np.array([[[0.5, 0.4995]]]), 0.9997)[0].tolist() == [2]


def test_threshold_zero_selects_the_first_expert():
    assert chosen([0.1, 0.6, 0.3], 0.0) == [1]


def test_threshold_one_selects_all_experts():
    weights_NLK = random_routing(0)
    assert (select_experts(weights_NLK, 1.0).num_selected_NL == weights_NLK.shape[-1]).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 70, float("nan")])
def test_thresholds_outside_the_range_are_refused(threshold):
    with pytest.raises(ValueError, match=r"at least 0 and at most 1, found .*paper uses 0\.7"):
        select_experts(random_routing(0), threshold)


def test_single_precision_selects_like_its_exact_values():
    routing = random_routing(5, num_samples=40, num_experts=16).astype(np.float32)
    assert pathway_strings(routing) == pathway_strings(routing.astype(np.float64))


def test_strings_and_symbols_by_hand():
    routing = np.zeros((2, 3, 12))
    routing[0, 0, [3, 1, 5]] = [0.3, 0.25, 0.2]
    routing[0, 0, 0] = 0.25 - 1e-6
    routing[0, 0, 7] = 1e-6
    routing[0, 1, 9] = 1.0
    routing[0, 2, [11, 0]] = [0.65, 0.35]
    routing[1, :, 2] = 1.0
    assert pathway_strings(routing) == ["3,1,0-9-11,0", "2-2-2"]
    symbols = pathway_symbols(routing)
    assert [row.tolist() for row in symbols] == [[3, 1, 0, 21, 35, 24], [2, 14, 26]]
    lengths_N, lengths_NL = pathway_lengths(routing)
    assert lengths_N.tolist() == [6, 3]
    assert lengths_NL.tolist() == [[3, 1, 2], [1, 1, 1]]


@settings(deadline=None, max_examples=60)
@given(routings, thresholds)
def test_strings_equal_the_slow_twin(routing, threshold):
    expected = [pathway_string(sample.tolist(), threshold) for sample in routing]
    assert pathway_strings(routing, threshold) == expected


@settings(deadline=None, max_examples=40)
@given(routings, thresholds)
def test_symbols_equal_the_slow_twin(routing, threshold):
    num_experts = routing.shape[-1]
    symbols = pathway_symbols(routing, threshold)
    assert len(symbols) == len(routing)
    for sample, found in zip(routing, symbols, strict=True):
        expected = [
            layer * num_experts + expert
            for layer, weights_K in enumerate(sample.tolist())
            for expert in selected_experts(weights_K, threshold)
        ]
        assert found.tolist() == expected


@settings(deadline=None, max_examples=40)
@given(routings, thresholds)
def test_lengths_agree_with_strings_and_symbols(routing, threshold):
    lengths_N, lengths_NL = pathway_lengths(routing, threshold)
    strings = pathway_strings(routing, threshold)
    assert lengths_N.tolist() == [len(s) for s in pathway_symbols(routing, threshold)]
    assert lengths_NL.tolist() == [
        [len(layer.split(",")) for layer in string.split("-")] for string in strings
    ]


@settings(deadline=None, max_examples=40)
@given(routings)
def test_a_higher_threshold_never_shortens_a_pathway(routing):
    lengths = [pathway_lengths(routing, threshold)[1] for threshold in (0.3, 0.5, 0.7, 0.8)]
    assert all((low <= high).all() for low, high in pairwise(lengths))


def test_units():
    routing = random_routing(7)
    assert pathways_in_unit(routing, 0.7, "character") == pathway_strings(routing)
    found = pathways_in_unit(routing, 0.7, "expert")
    for row, expected in zip(found, pathway_symbols(routing), strict=True):
        np.testing.assert_array_equal(row, expected)
    with pytest.raises(ValueError, match="unknown pathway unit 'token'; expected 'character' or"):
        pathways_in_unit(routing, 0.7, "token")


def test_entropy_closed_forms():
    uniform = np.full((2, 3, 8), 1 / 8)
    np.testing.assert_allclose(routing_entropy(uniform), np.log(8))
    one_hot = np.zeros((1, 1, 8))
    one_hot[..., 3] = 1.0
    assert routing_entropy(one_hot).tolist() == [[0.0]]
    half = np.array([[[0.5, 0.25, 0.25]]])
    np.testing.assert_allclose(routing_entropy(half), 1.5 * np.log(2))


@settings(deadline=None, max_examples=30)
@given(routings, st.randoms(use_true_random=False))
def test_entropy_is_bounded_and_blind_to_expert_names(routing, random):
    order = list(range(routing.shape[-1]))
    random.shuffle(order)
    entropy = routing_entropy(routing)
    assert entropy.shape == routing.shape[:2]
    assert (entropy >= 0).all()
    assert (entropy <= np.log(routing.shape[-1]) + 1e-12).all()
    np.testing.assert_allclose(routing_entropy(routing[..., order]), entropy, atol=1e-12)
