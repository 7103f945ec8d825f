"""All routing measures of the field on one checkpoint, as tidy rows beside random routing.

This module only composes; the measures are defined in :mod:`metrics.token_routing` and
:mod:`metrics.sample_routing`.

Shapes: T tokens, L MoE layers, K experts, A experts chosen per token, N samples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.controls import null_routing
from metrics.registry import measure_row
from metrics.sample_routing import WINDOWS, path_entropy, signature_separation
from metrics.token_routing import (
    PERCENTILES,
    boundary_margins,
    chosen_experts,
    chosen_mass,
    coactivation,
    congestion_coefficient,
    domain_specialisation,
    imbalance,
    load_shares,
    rank_adjacent_coactivation,
    strongest_partner,
    token_entropy,
    vocabulary_specialisation,
)

UNIFORM = "every expert the same weight"
RANDOM = "experts chosen at random"
SHUFFLED = "samples shuffled in each layer"
RELABELLED = "tokens shuffled"
RENAMED = "experts renamed for each token"
PERMUTED = "domains shuffled"
NUM_SHUFFLES = 99
SIGNATURE = ("signature_within", "signature_separation", "signature_separation_same_load")
REASONS = {
    "boundary": "all experts are chosen, so there is no boundary",
    "coactivation": "one expert is chosen per token",
    "domain": "the study has one domain",
    "vocabulary": "no token occurs often enough",
    "congestion": "fewer than three experts differ in load",
}
"""Why a measure has no value, by the first word of its name."""

Found = tuple[str, Any, Any, str]
"""Name, values by layer (None where there are none), baseline by layer or for all, its kind."""


@dataclass(frozen=True)
class DomainTokens:
    """Routing of the sampled tokens of a domain and what they are."""

    routing_weights_TLK: NDArray[np.floating]
    token_ids_T: NDArray[np.integer]


@dataclass(frozen=True)
class FieldTables:
    """Rows of the tables `routing_measures`, `expert_use` and `coactivation`."""

    measures: list[dict[str, Any]]
    expert_use: list[dict[str, Any]]
    coactivation: list[dict[str, Any]]


def field_tables(
    tokens: dict[str, DomainTokens],
    samples: dict[str, NDArray[np.floating]],
    top_k: int,
    *,
    seed: int,
) -> FieldTables:
    """Measure the routing of tokens and samples of every domain.

    Parameters
    ----------
    tokens
        Sampled tokens by domain.
    samples
        Routing weights [N, L, K] of the samples by domain.
    top_k
        Experts per token.
    seed
        Seed of the random routings beside the measures.
    """
    chosen = {name: chosen_experts(one.routing_weights_TLK, top_k) for name, one in tokens.items()}
    num_experts = next(iter(tokens.values())).routing_weights_TLK.shape[-1]
    loads = {name: load_shares(ids, num_experts) for name, ids in chosen.items()}
    tables = FieldTables([], [], _pair_rows(np.concatenate(list(chosen.values())), num_experts))
    for name, one in tokens.items():
        others = [other for other in tokens if other != name]
        found = [
            *_single_domain(one, chosen[name], loads[name], seed),
            _specialisation(
                chosen[name],
                loads[name],
                [loads[other] for other in others],
                [len(chosen[other]) for other in others],
                seed,
            ),
            *_vocabulary(one.token_ids_T, chosen[name], num_experts, seed),
        ]
        for measure in found:
            tables.measures.extend(_rows(name, measure, len(chosen[name])))
        tables.measures.extend(_route_rows(name, samples[name], seed))
        tables.expert_use.extend(_use_rows(name, loads[name], top_k, one.routing_weights_TLK))
    tables.measures.extend(_signature_rows(samples, seed))
    return tables


def random_choices(
    shape_TLA: tuple[int, int, int], num_experts: int, seed: int
) -> NDArray[np.intp]:
    """Experts drawn at random for every token and layer, each set of A equally likely."""
    num_tokens, num_layers, num_chosen = shape_TLA
    draws = np.random.default_rng(seed).random((num_tokens, num_layers, num_experts))
    return np.argsort(draws, axis=-1)[..., :num_chosen]


def _single_domain(
    tokens: DomainTokens, chosen_TLA: NDArray[np.intp], load_LK: NDArray[np.float64], seed: int
) -> list[Found]:
    """Load, gate mass, decidedness, congestion, margins and partners of one domain's tokens."""
    weights_TLK = np.asarray(tokens.routing_weights_TLK, dtype=np.float64)
    num_experts, top_k = weights_TLK.shape[-1], chosen_TLA.shape[-1]
    drawn_TLA = random_choices(chosen_TLA.shape, num_experts, seed)
    renamed_TLK = null_routing(weights_TLK, "relabelled_experts", seed)
    renamed_load_LK = load_shares(chosen_experts(renamed_TLK, top_k), num_experts)
    by_load, by_gate = imbalance(load_LK), imbalance(weights_TLK.mean(axis=0))
    drawn = imbalance(load_shares(drawn_TLA, num_experts))
    own_gamma_L = congestion_coefficient(weights_TLK, load_LK)
    renamed_gamma_L = congestion_coefficient(renamed_TLK, renamed_load_LK)
    return [
        ("load_variation", by_load.variation_L, drawn.variation_L, RANDOM),
        ("load_max_violation", by_load.max_violation_L, drawn.max_violation_L, RANDOM),
        ("effective_experts", by_load.effective_experts_L, drawn.effective_experts_L, RANDOM),
        ("gate_effective_experts", by_gate.effective_experts_L, float(num_experts), UNIFORM),
        ("gate_max_violation", by_gate.max_violation_L, 0.0, UNIFORM),
        ("token_entropy", token_entropy(weights_TLK), float(np.log(num_experts)), UNIFORM),
        ("chosen_mass", chosen_mass(weights_TLK, top_k), top_k / num_experts, UNIFORM),
        ("congestion_coefficient", own_gamma_L, renamed_gamma_L, RENAMED),
        *_margins(weights_TLK, top_k),
        *_partners(chosen_TLA, drawn_TLA, num_experts),
    ]


def _margins(weights_TLK: NDArray[np.float64], top_k: int) -> list[Found]:
    margins = boundary_margins(weights_TLK, top_k)
    found: list[Found] = []
    for at, percentile in enumerate(PERCENTILES):
        for on in ("weight", "logit"):
            values_L = None if margins is None else getattr(margins, f"{on}_PL")[at]
            found.append((f"boundary_margin_{on}_p{percentile}", values_L, 0.0, UNIFORM))
    return found


def _partners(
    chosen_TLA: NDArray[np.intp], drawn_TLA: NDArray[np.intp], num_experts: int
) -> list[Found]:
    found: list[Found] = []
    for measure, of in (
        ("coactivation_strongest", coactivation),
        ("coactivation_strongest_rank_adjacent", rank_adjacent_coactivation),
    ):
        own, drawn = (strongest_partner(of(ids, num_experts)) for ids in (chosen_TLA, drawn_TLA))
        found.append((measure, own if chosen_TLA.shape[-1] > 1 else None, drawn, RANDOM))
    return found


def _specialisation(
    chosen_TLA: NDArray[np.intp],
    load_LK: NDArray[np.float64],
    other_loads: list[NDArray[np.float64]],
    other_counts: list[int],
    seed: int,
) -> Found:
    """This domain's load against that of the others, each of which counts by its tokens."""
    if not other_loads:
        return "domain_specialisation", None, None, RANDOM
    pooled_LK = np.average(other_loads, axis=0, weights=other_counts)
    # Two finite samples of one load differ: the baseline is above 0.
    num_experts, shape = load_LK.shape[-1], (sum(other_counts), *chosen_TLA.shape[1:])
    drawn = load_shares(random_choices(chosen_TLA.shape, num_experts, seed), num_experts)
    others = load_shares(random_choices(shape, num_experts, seed + 1), num_experts)
    chance_L = domain_specialisation(drawn, others)
    return "domain_specialisation", domain_specialisation(load_LK, pooled_LK), chance_L, RANDOM


def _vocabulary(
    token_ids_T: NDArray[np.integer], chosen_TLA: NDArray[np.intp], num_experts: int, seed: int
) -> list[Found]:
    shuffled_T = np.random.default_rng(seed).permutation(token_ids_T)
    found: list[Found] = []
    for measure, width in (
        ("vocabulary_specialisation", 1),
        ("vocabulary_specialisation_top_k", chosen_TLA.shape[-1]),
    ):
        own_L, null_L = (
            vocabulary_specialisation(chosen_TLA[..., :width], ids_T, num_experts)
            for ids_T in (token_ids_T, shuffled_T)
        )
        found.append((measure, own_L, null_L, RELABELLED))
    return found


def _route_rows(domain: str, weights_NLK: NDArray[np.floating], seed: int) -> list[dict[str, Any]]:
    null_NLK = null_routing(weights_NLK, "shuffled_samples", seed)
    num_samples, num_layers, _ = weights_NLK.shape
    rows = []
    for window in WINDOWS:
        fits = window <= num_layers and num_samples > 1
        own, null = ((path_entropy(w, window) if fits else None) for w in (weights_NLK, null_NLK))
        if window == 1:
            null = None  # a shuffle inside the layer leaves a single layer as it is
        note = None if fits else f"not available, because there are fewer than {window} layers"
        name = f"path_entropy_{window}"
        rows.append(
            measure_row(domain, name, own, num_samples, baseline=null, kind=SHUFFLED, note=note)
        )
    return rows


def _signature_rows(samples: dict[str, NDArray[np.floating]], seed: int) -> list[dict[str, Any]]:
    labels = np.concatenate([[name] * len(one) for name, one in samples.items()])
    num = len(labels)
    if len(samples) < 2 or min(map(len, samples.values())) < 2:
        note = "not available, because it compares two domains of at least two samples"
        return [measure_row("all", name, None, num, note=note) for name in SIGNATURE]
    pooled = np.concatenate(list(samples.values()))
    found = signature_separation(pooled, labels, num_shuffles=NUM_SHUFFLES, seed=seed)
    null = null_routing(pooled, "load_preserving", seed)
    same_load = signature_separation(null, labels, num_shuffles=1, seed=seed)
    note = f"p = {found.p:.2g} against {NUM_SHUFFLES} shuffles of the domains"
    values = (
        (found.within, found.between, "between domains", None),
        (found.separation, found.null_mean, PERMUTED, note),
        (same_load.separation, 0.0, "no domains", None),
    )
    return [
        measure_row("all", name, value, num, baseline=baseline, kind=kind, note=note)
        for name, (value, baseline, kind, note) in zip(SIGNATURE, values, strict=True)
    ]


def _use_rows(
    domain: str, load_LK: NDArray[np.float64], top_k: int, weights_TLK: NDArray[np.floating]
) -> list[dict[str, Any]]:
    gate_LK = np.asarray(weights_TLK, dtype=np.float64).mean(axis=0)
    return [
        {
            "domain": domain,
            "layer": layer,
            "expert": expert,
            "load_share": float(load_LK[layer, expert]),
            "token_share": float(load_LK[layer, expert]) * top_k,
            "gate_share": float(gate_LK[layer, expert]),
        }
        for layer, expert in np.ndindex(*load_LK.shape)
    ]


def _pair_rows(chosen_TLA: NDArray[np.intp], num_experts: int) -> list[dict[str, Any]]:
    all_LKK = coactivation(chosen_TLA, num_experts)
    adjacent_LKK = rank_adjacent_coactivation(chosen_TLA, num_experts)
    return [
        {
            "layer": int(layer),
            "expert": int(one),
            "other": int(other),
            "share": float(all_LKK[layer, one, other]),
            "rank_adjacent_share": float(adjacent_LKK[layer, one, other]),
        }
        for layer, one, other in np.argwhere(all_LKK > 0)
    ]


def _rows(domain: str, found: Found, num_tokens: int) -> list[dict[str, Any]]:
    """The mean of layers where every layer has a value, then one row per layer."""
    measure, values_L, baseline_L, kind = found
    note = f"not available, because {REASONS.get(measure.split('_')[0], 'it is undefined here')}"
    if values_L is None:
        return [measure_row(domain, measure, None, num_tokens, note=note)]
    values_L = np.asarray(values_L, dtype=np.float64)
    baselines_L = np.broadcast_to(np.nan if baseline_L is None else baseline_L, values_L.shape)
    places: list[int | None] = [None, *range(len(values_L))]
    rows = []
    for layer in places:
        value, baseline = (
            _real(of_L.mean() if layer is None else of_L[layer]) for of_L in (values_L, baselines_L)
        )
        why = note if value is None else None
        row = measure_row(domain, measure, value, num_tokens, baseline=baseline, kind=kind)
        rows.append(row | {"layer": layer, "note": why})
    return rows


def _real(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
