"""All routing measures of the field on one checkpoint, as tidy rows beside random routing.

This module only composes; each measure is defined, cited and tested where it stands.

Shape suffixes: T tokens, L MoE layers, K experts, A chosen experts, N samples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.controls import null_routing
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
    counts = {name: len(ids) for name, ids in chosen.items()}
    loads = {name: load_shares(ids, num_experts) for name, ids in chosen.items()}
    measures: list[dict[str, Any]] = []
    use: list[dict[str, Any]] = []
    for name, one in tokens.items():
        others = [other for other in tokens if other != name]
        pooled = _pooled([loads[o] for o in others], [counts[o] for o in others])
        num_others = sum(counts[o] for o in others)
        measures += _token_rows(name, one, chosen[name], loads[name], pooled, num_others, seed)
        measures += _route_rows(name, samples[name], seed)
        use += _use_rows(name, loads[name], top_k, one.routing_weights_TLK)
    measures += _signature_rows(samples, seed)
    return FieldTables(
        measures, use, _pair_rows(np.concatenate(list(chosen.values())), num_experts)
    )


def random_choices(
    shape_TLA: tuple[int, int, int], num_experts: int, seed: int
) -> NDArray[np.intp]:
    """Experts drawn at random for every token and layer, each set of A equally likely."""
    num_tokens, num_layers, num_chosen = shape_TLA
    draws = np.random.default_rng(seed).random((num_tokens, num_layers, num_experts))
    return np.argsort(draws, axis=-1)[..., :num_chosen]


def _pooled(loads: list[NDArray[np.float64]], counts: list[int]) -> NDArray[np.float64] | None:
    """Load of several domains together, each counted by its tokens; None of none."""
    return np.average(loads, axis=0, weights=counts) if loads else None


def _token_rows(
    domain: str,
    tokens: DomainTokens,
    chosen_TLA: NDArray[np.intp],
    load_LK: NDArray[np.float64],
    other_load_LK: NDArray[np.float64] | None,
    num_others: int,
    seed: int,
) -> list[dict[str, Any]]:
    weights_TLK = np.asarray(tokens.routing_weights_TLK, dtype=np.float64)
    num_experts, top_k = weights_TLK.shape[-1], chosen_TLA.shape[-1]
    drawn_TLA = random_choices(chosen_TLA.shape, num_experts, seed)
    renamed_TLK = null_routing(weights_TLK, "relabelled_experts", seed)
    by_load, by_gate = imbalance(load_LK), imbalance(weights_TLK.mean(axis=0))
    drawn_load = imbalance(load_shares(drawn_TLA, num_experts))
    found: list[tuple[str, Any, Any, str | None]] = [
        ("load_variation", by_load.variation_L, drawn_load.variation_L, RANDOM),
        ("load_max_violation", by_load.max_violation_L, drawn_load.max_violation_L, RANDOM),
        ("effective_experts", by_load.effective_experts_L, drawn_load.effective_experts_L, RANDOM),
        ("gate_effective_experts", by_gate.effective_experts_L, float(num_experts), UNIFORM),
        ("gate_max_violation", by_gate.max_violation_L, 0.0, UNIFORM),
        ("token_entropy", token_entropy(weights_TLK), float(np.log(num_experts)), UNIFORM),
        ("chosen_mass", chosen_mass(weights_TLK, top_k), top_k / num_experts, UNIFORM),
        (
            "congestion_coefficient",
            congestion_coefficient(weights_TLK, load_LK),
            congestion_coefficient(
                renamed_TLK, load_shares(chosen_experts(renamed_TLK, top_k), num_experts)
            ),
            RENAMED,
        ),
    ]
    margins = boundary_margins(weights_TLK, top_k)
    for at, percentile in enumerate(PERCENTILES):
        for on in ("weight", "logit"):
            values = None if margins is None else getattr(margins, f"{on}_PL")[at]
            found.append((f"boundary_margin_{on}_p{percentile}", values, 0.0, UNIFORM))
    for measure, of in (
        ("coactivation_strongest", coactivation),
        ("coactivation_strongest_rank_adjacent", rank_adjacent_coactivation),
    ):
        own, drawn = (strongest_partner(of(ids, num_experts)) for ids in (chosen_TLA, drawn_TLA))
        found.append((measure, own if top_k > 1 else None, drawn, RANDOM))
    apart, chance = None, None
    if other_load_LK is not None:
        apart = domain_specialisation(load_LK, other_load_LK)
        # Two finite samples of one load differ: the baseline is above 0.
        shape = (num_others, *chosen_TLA.shape[1:])
        others_TLA = random_choices(shape, num_experts, seed + 1)
        chance = domain_specialisation(
            load_shares(drawn_TLA, num_experts), load_shares(others_TLA, num_experts)
        )
    found.append(("domain_specialisation", apart, chance, RANDOM))
    shuffled_T = np.random.default_rng(seed).permutation(tokens.token_ids_T)
    for measure, width in (
        ("vocabulary_specialisation", 1),
        ("vocabulary_specialisation_top_k", top_k),
    ):
        own_L, null_L = (
            vocabulary_specialisation(chosen_TLA[..., :width], ids_T, num_experts)
            for ids_T in (tokens.token_ids_T, shuffled_T)
        )
        found.append((measure, own_L, null_L, RELABELLED))
    reasons = {
        "boundary": "all experts are chosen, so there is no boundary",
        "coactivation": "one expert is chosen per token",
        "domain": "the study has one domain",
        "vocabulary": "no token occurs often enough",
        "congestion": "fewer than three experts differ in load",
    }
    return [
        row
        for measure, values_L, baseline_L, kind in found
        for row in _rows(
            domain,
            measure,
            values_L,
            baseline_L,
            kind,
            len(weights_TLK),
            reasons.get(measure.split("_")[0], "it is undefined here"),
        )
    ]


def _route_rows(domain: str, weights_NLK: NDArray[np.floating], seed: int) -> list[dict[str, Any]]:
    null_NLK = null_routing(weights_NLK, "shuffled_samples", seed)
    rows = []
    for window in WINDOWS:
        fits = window <= weights_NLK.shape[1] and len(weights_NLK) > 1
        own, null = ((path_entropy(w, window) if fits else None) for w in (weights_NLK, null_NLK))
        if window == 1:
            null = None  # a shuffle inside the layer leaves a single layer as it is
        note = None if fits else f"not available, because there are fewer than {window} layers"
        rows.append(
            _row(
                domain, None, f"path_entropy_{window}", own, null, SHUFFLED, len(weights_NLK), note
            )
        )
    return rows


def _signature_rows(samples: dict[str, NDArray[np.floating]], seed: int) -> list[dict[str, Any]]:
    labels = np.concatenate([[name] * len(one) for name, one in samples.items()])
    if len(samples) < 2 or min(map(len, samples.values())) < 2:
        note = "not available, because it compares two domains of at least two samples"
        return [_row("all", None, name, None, None, None, len(labels), note) for name in SIGNATURE]
    found = signature_separation(
        np.concatenate(list(samples.values())), labels, num_shuffles=NUM_SHUFFLES, seed=seed
    )
    note = f"p = {found.p:.2g} against {NUM_SHUFFLES} shuffles of the domains"
    pooled = np.concatenate(list(samples.values()))
    same_load = signature_separation(
        null_routing(pooled, "load_preserving", seed), labels, num_shuffles=1, seed=seed
    )
    return [
        _row(
            "all",
            None,
            "signature_within",
            found.within,
            found.between,
            "between domains",
            len(labels),
            None,
        ),
        _row(
            "all",
            None,
            "signature_separation",
            found.separation,
            found.null_mean,
            PERMUTED,
            len(labels),
            note,
        ),
        _row(
            "all",
            None,
            "signature_separation_same_load",
            same_load.separation,
            0.0,
            "no domains",
            len(labels),
            None,
        ),
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


def _rows(
    domain: str,
    measure: str,
    values_L: Any,
    baseline_L: Any,
    kind: str | None,
    num_tokens: int,
    why_not: str,
) -> list[dict[str, Any]]:
    """One row per layer, and their mean where every layer has a value."""
    if values_L is None:
        note = f"not available, because {why_not}"
        return [_row(domain, None, measure, None, None, None, num_tokens, note)]
    values_L = np.asarray(values_L, dtype=np.float64)
    baselines = np.broadcast_to(np.nan if baseline_L is None else baseline_L, values_L.shape)
    places: list[int | None] = [None, *range(len(values_L))]
    return [
        _row(
            domain,
            layer,
            measure,
            _real(values_L.mean() if layer is None else values_L[layer]),
            _real(baselines.mean() if layer is None else baselines[layer]),
            kind,
            num_tokens,
            None
            if np.isfinite(values_L if layer is None else values_L[layer]).all()
            else f"not available, because {why_not}",
        )
        for layer in places
    ]


def _row(
    domain: str,
    layer: int | None,
    measure: str,
    value: float | None,
    baseline: float | None,
    kind: str | None,
    num_tokens: int,
    note: str | None,
) -> dict[str, Any]:
    return {
        "domain": domain,
        "layer": layer,
        "measure": measure,
        "value": value,
        "baseline": baseline,
        "baseline_kind": kind if baseline is not None else None,
        "num_tokens": num_tokens,
        "note": note,
    }


def _real(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
