import numpy as np
import pytest

from metrics.bound import bound_terms, gating_features, one_hot_targets
from metrics.consistency import pathway_consistency
from metrics.distances import layer_distances, mean_pairwise_distance
from metrics.measures import (
    PairSettings,
    distance_rows,
    domain_bound,
    domain_rows,
    group_rows,
    sample_rows,
    tangent_bound,
)
from metrics.pathways import pathway_strings

SETTINGS = PairSettings(threshold=0.7, max_pairs=None, seed=0)


@pytest.fixture
def tensors():
    """Routing of 12 samples through 3 layers of 4 experts, and router weights in 5 dimensions."""
    rng = np.random.default_rng(3)
    return rng.dirichlet(np.ones(4), size=(12, 3)), rng.normal(size=(3, 4, 5)) + 1.0


def value(rows, metric, scope="domain", layer=None):
    (row,) = [r for r in rows if (r.metric, r.scope, r.layer) == (metric, scope, layer)]
    return row.value


def test_rows_hold_what_the_single_measures_give(tensors):
    routing, routers = tensors
    rows = domain_rows(routing, routers, SETTINGS)
    strings = pathway_strings(routing, 0.7)
    assert value(rows, "pathway_distance") == mean_pairwise_distance(strings).mean
    assert value(rows, "pathway_distance_normalized") == pytest.approx(
        mean_pairwise_distance(strings, normalize=True).mean
    )
    for layer, mean in enumerate(layer_distances(routing, 0.7)):
        assert value(rows, "pathway_distance_expert", "layer", layer) == mean.mean


def test_every_number_has_one_row(tensors):
    rows = domain_rows(*tensors, SETTINGS)
    keys = [(row.scope, row.metric, row.layer) for row in rows]
    assert len(keys) == len(set(keys))


def test_a_ratio_is_reported_only_where_it_is_well_conditioned(tensors):
    routing, routers = tensors
    scores = pathway_consistency(routing, routers)
    assert not scores.ill_conditioned_N.any()
    well = domain_rows(routing, routers, SETTINGS)
    assert value(well, "pathway_consistency_median") == np.median(scores.consistency_N)
    opposed = routers * np.array([1, -1, 1])[:, None, None]
    assert pathway_consistency(routing, opposed).ill_conditioned_N.all()
    ill = domain_rows(routing, opposed, SETTINGS)
    assert value(ill, "pathway_consistency_median") is None
    assert value(ill, "pathway_roughness_mean") is None
    assert value(ill, "num_ill_conditioned") == 12
    assert value(ill, "layer_cosine") < 0
    (row,) = [r for r in ill if r.metric == "pathway_consistency_median"]
    assert row.note == "not available, because 12 of 12 samples are ill-conditioned"


def test_one_layer_has_no_consistency_but_the_rest(tensors):
    routing, routers = tensors
    rows = domain_rows(routing[:, :1], routers[:1], SETTINGS)
    assert value(rows, "pathway_consistency_median") is None
    assert value(rows, "pathway_distance") > 0
    assert sample_rows(routing[:, :1], routers[:1], 0.7)["roughness"] == [None] * 12


def test_sampled_pairs_come_with_an_interval_and_a_note(tensors):
    routing, _ = tensors
    (row, *_) = distance_rows(routing, PairSettings(0.7, max_pairs=30, seed=1))
    assert row.low < row.value < row.high
    assert row.num_pairs == 30
    assert row.note == "30 of 66 pairs"


def test_sample_rows_are_in_the_order_of_the_samples(tensors):
    routing, routers = tensors
    columns = sample_rows(routing, routers, 0.7)
    order = np.random.default_rng(0).permutation(12)
    shuffled = sample_rows(routing[order], routers, 0.7)
    assert shuffled["pathway"] == [columns["pathway"][i] for i in order]
    np.testing.assert_allclose(shuffled["roughness"], columns["roughness"][order])


def test_the_bound_takes_answers_as_centred_one_hot_targets(tensors):
    routing, _ = tensors
    answers = [5, 9, 5, 7] * 3
    settings = {"ridge": 0.5, "noise_variance": 1.0, "confidence": 0.05}
    terms = domain_bound(routing, answers, **settings)
    features = gating_features(routing)
    kernel = features @ features.T
    targets = np.eye(3)[np.searchsorted([5, 7, 9], answers)]
    targets = targets - targets.mean(axis=0)
    inverse = np.linalg.inv(kernel + 0.5 * np.eye(12))
    expected = 0.25 / 12 * np.trace(targets.T @ inverse @ inverse @ targets)
    assert terms.bias == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(one_hot_targets(answers), targets)


def test_without_answers_there_is_no_bias_but_a_dimension(tensors):
    routing, _ = tensors
    terms = domain_bound(routing, None, ridge=0.5, noise_variance=1.0, confidence=0.05)
    assert terms.bias is None
    assert terms.total is None
    with_targets = bound_terms(gating_features(routing), np.ones(12), ridge=0.5, noise_variance=1.0)
    assert terms.effective_dimension == with_targets.effective_dimension


def test_a_group_has_the_measures_of_its_domain_and_its_mean_loss(tensors):
    routing, routers = tensors
    losses = np.linspace(0.5, 3.0, 12)
    rows = group_rows(routing[:7], routers, losses[:7], SETTINGS)
    assert {row.scope for row in rows} == {"group"}
    assert {row.num_samples for row in rows} == {7}
    assert value(rows, "training_loss", "group") == pytest.approx(losses[:7].mean())
    full = domain_rows(routing[:7], routers, SETTINGS)
    names = {row.metric for row in rows} - {"training_loss"}
    assert {"pathway_distance", "pathway_consistency_median", "layer_cosine"} <= names
    assert not any(name.endswith("_centred") for name in names)
    for name in names:
        assert value(rows, name, "group") == value(full, name)
    assert len(rows) == len(names) + 1


def test_a_group_of_a_model_with_one_layer_has_distance_and_loss(tensors):
    routing, routers = tensors
    rows = group_rows(routing[:, :1], routers[:1], np.ones(12), SETTINGS)
    (row,) = [row for row in rows if row.metric == "pathway_consistency_median"]
    assert (row.value, row.scope) == (None, "group")
    assert row.note == "not available, because the model has one MoE layer"
    assert value(rows, "pathway_distance", "group") > 0


def test_the_tangent_bound_of_the_gating_kernel_is_the_gating_bound(tensors):
    routing, _ = tensors
    features = gating_features(routing)
    how = {"ridge": 0.5, "noise_variance": 2.0, "confidence": 0.1}
    for answers in ([5, 9, 5, 7] * 3, None):
        found = tangent_bound(features @ features.T, answers, **how)
        expected = domain_bound(routing, answers, **how)
        assert found.effective_dimension == pytest.approx(expected.effective_dimension)
        assert found.bias == pytest.approx(expected.bias)
        assert found.total == pytest.approx(expected.total)
