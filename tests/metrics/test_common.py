"""Properties of every measure of a checkpoint; a new measure must take part."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from metrics.candidates import candidate_rows
from metrics.controls import null_rows
from metrics.dynamics import saturation_rows
from metrics.field import DomainTokens, field_tables
from metrics.measures import PairSettings, domain_bound, domain_rows, tangent_bound
from metrics.registry import REGISTRY
from metrics.token_routing import chosen_experts

NOT_OF_ROUTING = {
    "training_loss",
    "training_loss_moving_average",
    "validation_loss",
    "loss_flat",  # has calls, no values
}
DRAWS_SAMPLE_BY_SAMPLE = {
    "distance_over_null",
    "distance_over_chance",
    "dimension_over_null",
    "signature_separation_same_load",
}
"""What is drawn for a sample depends on its place; all else ignores the order of samples."""
NAMES_MATTER = {
    "pathway_distance",  # an expert with a two-digit id has two characters
    "pathway_distance_normalized",
    "distance_over_null",  # the draws go through the experts in order
    "distance_over_chance",
    "signature_separation_same_load",
}
DOMAINS, TOP_K, SEED = ("math", "code"), 3, 5
BOUND = {"ridge": 0.5, "noise_variance": 1.0, "confidence": 0.05}


@dataclass(frozen=True)
class Checkpoint:
    """Samples [N, L, K] and tokens of two domains, routers, and what is known of math's samples."""

    samples: dict
    tokens: dict
    previous: np.ndarray
    routers: np.ndarray
    inputs: np.ndarray
    answers: np.ndarray
    kernel: np.ndarray


def checkpoint(seed, concentration=0.5, num_samples=14, num_layers=3, num_experts=12):
    rng = np.random.default_rng(seed)
    alpha = np.full(num_experts, concentration)
    hidden = rng.normal(size=(num_samples, 4))
    tokens = {
        name: DomainTokens(rng.dirichlet(alpha, size=(60, num_layers)), rng.integers(4, size=60))
        for name in DOMAINS
    }
    # Layers have something in common, else no ratio of cosines is well conditioned.
    routers = rng.normal(size=(num_experts, 7)) + 0.3 * rng.normal(
        size=(num_layers, num_experts, 7)
    )
    samples = {
        name: rng.dirichlet(alpha, size=(num_samples, num_layers)) / 2
        + rng.dirichlet(alpha, size=(num_samples, 1)) / 2
        for name in DOMAINS
    }
    return Checkpoint(
        samples=samples,
        tokens=tokens,
        previous=rng.dirichlet(alpha, size=(60, num_layers)),
        routers=routers,
        inputs=rng.integers(3, size=(num_samples, 2)),
        answers=np.arange(num_samples) % 3,
        kernel=hidden @ hidden.T,
    )


def measured(one):
    """Every measure of the domain math, by name."""
    weights, answers = one.samples["math"], one.answers.tolist()
    rows = domain_rows(weights, one.routers, PairSettings(0.7, None, SEED))
    found = {row.metric: row.value for row in rows if row.scope == "domain"}
    for name in ("cosine", "cosine_centred"):
        found[name] = np.mean([row.value for row in rows if row.metric == name])
    gating = domain_bound(weights, answers, **BOUND)
    found |= {
        "effective_dimension": gating.effective_dimension,
        "bound_bias": gating.bias,
        "bound_total": gating.total,
        "effective_dimension_tangent": tangent_bound(
            one.kernel, answers, **BOUND
        ).effective_dimension,
    }
    pairs = {"max_pairs": 1000, "seed": SEED}
    chosen = [
        chosen_experts(weights, TOP_K)
        for weights in (one.previous, one.tokens["math"].routing_weights_TLK)
    ]
    tidy = [
        *field_tables(one.tokens, one.samples, TOP_K, seed=SEED).measures,
        *candidate_rows("math", weights, one.inputs.tolist(), answers, ridge=0.5, **pairs),
        *null_rows("math", weights, 0.7, **pairs)[1],
        *(row for row in saturation_rows("math", [10, 20], chosen, 12) if row["step"] == 20),
    ]
    return found | {
        row["measure"]: row["value"]
        for row in tidy
        if row["layer"] is None and row["domain"] in ("math", "all")
    }


def in_order(one, seed):
    """The same samples and tokens in another order."""
    rng = np.random.default_rng(seed)
    order, of_tokens = rng.permutation(len(one.answers)), rng.permutation(len(one.previous))
    return Checkpoint(
        samples={name: weights[order] for name, weights in one.samples.items()},
        tokens={
            name: DomainTokens(part.routing_weights_TLK[of_tokens], part.token_ids_T[of_tokens])
            for name, part in one.tokens.items()
        },
        previous=one.previous[of_tokens],
        routers=one.routers,
        inputs=one.inputs[order],
        answers=one.answers[order],
        kernel=one.kernel[np.ix_(order, order)],
    )


def renamed(one, seed):
    """The same experts under other ids, in each layer others."""
    rng = np.random.default_rng(seed)
    num_layers, num_experts, _ = one.routers.shape
    order_LK = np.stack([rng.permutation(num_experts) for _ in range(num_layers)])

    def of(weights):
        return np.take_along_axis(weights, order_LK[None], axis=-1)

    return replace(
        one,
        samples={name: of(weights) for name, weights in one.samples.items()},
        tokens={
            name: DomainTokens(of(part.routing_weights_TLK), part.token_ids_T)
            for name, part in one.tokens.items()
        },
        previous=of(one.previous),
        routers=np.take_along_axis(one.routers, order_LK[..., None], axis=1),
    )


def changed(before, after):
    assert before.keys() == after.keys()
    return {
        name
        for name, value in before.items()
        if (value is None) != (after[name] is None)
        or (value is not None and after[name] != pytest.approx(value, rel=1e-7, abs=1e-9))
    }


def check_values(found):
    for name, value in found.items():
        if value is not None:
            low, high = REGISTRY[name].low, REGISTRY[name].high
            assert np.isfinite(value), name
            assert low is None or value >= low - 1e-9, name
            assert high is None or value <= high + 1e-9, name


def test_every_measure_takes_part_and_has_a_value():
    found = measured(checkpoint(0))
    assert found.keys() | NOT_OF_ROUTING == REGISTRY.keys()
    assert not found.keys() & NOT_OF_ROUTING
    assert [name for name, value in found.items() if value is None] == []


@pytest.mark.parametrize("concentration", [0.02, 0.5, 50.0])
def test_values_are_finite_and_in_the_declared_range(concentration):
    for seed in range(3):
        check_values(measured(checkpoint(seed, concentration)))


@pytest.mark.parametrize("routing", [np.full(12, 1 / 12), np.eye(12)[0]], ids=["even", "one"])
def test_routing_without_any_difference_has_values_in_range_or_none(routing):
    one = checkpoint(0)

    def alike(weights):
        return np.broadcast_to(routing, weights.shape)

    flat = replace(
        one,
        samples={name: alike(weights) for name, weights in one.samples.items()},
        tokens={
            name: DomainTokens(alike(part.routing_weights_TLK), part.token_ids_T)
            for name, part in one.tokens.items()
        },
        previous=alike(one.previous),
    )
    found = measured(flat)
    check_values(found)
    assert found["pathway_distance"] == found["routing_variance"] == 0
    assert found["kernel_alignment"] is None


def test_the_same_checkpoint_has_the_same_values_to_the_last_bit():
    assert measured(checkpoint(1)) == measured(checkpoint(1))


def test_the_order_of_samples_and_tokens_does_not_matter():
    found = [changed(measured(checkpoint(s)), measured(in_order(checkpoint(s), s))) for s in (2, 3)]
    assert set.union(*found) == DRAWS_SAMPLE_BY_SAMPLE


def test_the_names_of_experts_do_not_matter():
    found = [changed(measured(checkpoint(s)), measured(renamed(checkpoint(s), s))) for s in (2, 3)]
    assert set.union(*found) == NAMES_MATTER
