import numpy as np
import pytest

from metrics.margins import boundary_margins, chosen_mass, token_entropy

UNIFORM = np.full((5, 2, 8), 1 / 8)


def test_uniform_routing_has_the_largest_entropy_and_no_margin():
    assert token_entropy(UNIFORM) == pytest.approx(np.log(8) * np.ones(2))
    margins = boundary_margins(UNIFORM, top_k=2)
    assert not margins.weight_PL.any()
    assert not margins.logit_PL.any()
    assert chosen_mass(UNIFORM, top_k=2) == pytest.approx([0.25, 0.25])


def test_one_hot_routing_is_decided():
    one_hot = np.broadcast_to(np.eye(4)[:1], (3, 1, 4))
    assert token_entropy(one_hot) == pytest.approx([0.0])
    assert boundary_margins(one_hot, top_k=1).weight_PL == pytest.approx(np.ones((3, 1)))
    assert np.isfinite(boundary_margins(one_hot, top_k=1).logit_PL).all()


def test_percentiles_against_sorting_by_hand():
    logits = np.random.default_rng(0).normal(size=(41, 2, 5))
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    ordered = np.sort(logits, axis=-1)[..., ::-1]
    margins = boundary_margins(weights, top_k=3)
    by_hand = np.percentile(ordered[..., 2] - ordered[..., 3], (10, 50, 90), axis=0)
    assert margins.logit_PL == pytest.approx(by_hand)


def test_without_a_boundary_there_is_no_margin():
    assert boundary_margins(UNIFORM, top_k=8) is None
    with pytest.raises(ValueError, match="top_k is 9"):
        boundary_margins(UNIFORM, top_k=9)
