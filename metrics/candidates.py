"""Candidate monitors and nulls of one checkpoint and domain, as tidy rows.

This module only composes (:mod:`metrics.structure`, :mod:`metrics.nulls`).

Shape suffixes: N samples, L MoE layers, K experts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.distances import mean_pairwise_distance
from metrics.nulls import DISTANCE_NULLS, null_routing
from metrics.pathways import Unit, pathways_in_unit, routing_entropy
from metrics.structure import (
    answer_variance_share,
    dimension_over_null,
    kernel_alignment,
    likeness,
    linear_input_share,
)

NO_ANSWER = "not available, because samples have no single answer token"
NO_VARIANCE = "not available, because routing, inputs or answers do not vary enough"
NULL_MONITORS: dict[tuple[Unit, bool], str] = {
    ("character", False): "pathway_distance",
    ("character", True): "pathway_distance_normalized",
    ("expert", False): "pathway_distance_expert",
}


def candidate_rows(
    domain: str,
    routing_weights_NLK: NDArray[np.floating],
    inputs: Sequence[Sequence[int]],
    answers_N: Sequence[int] | None,
    *,
    ridge: float,
    max_pairs: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of `routing_measures`, without baselines, for the candidates of one domain.

    Parameters
    ----------
    domain
        Name of the domain.
    routing_weights_NLK
        Routing weights of at least two samples.
    inputs
        Token ids of each sample without its answer.
    answers_N
        Answer token of each sample, or None.
    ridge, max_pairs, seed
        Ridge of the effective dimension; pairs drawn, and their seed.
    """
    weights = np.asarray(routing_weights_NLK, dtype=np.float64)
    alike = likeness(weights, inputs, answers_N, max_pairs=max_pairs, seed=seed)
    told = answers_N is not None
    enough = told and len(weights) >= 4
    values: dict[str, tuple[float | None, str]] = {
        "likeness_input": (alike.with_input, NO_VARIANCE),
        "likeness_answer": (alike.with_answer, NO_VARIANCE if told else NO_ANSWER),
        "likeness_answer_given_input": (
            alike.with_answer_given_input,
            NO_VARIANCE if told else NO_ANSWER,
        ),
        "kernel_alignment": (
            kernel_alignment(weights, np.asarray(answers_N)) if enough else None,
            NO_VARIANCE if told else NO_ANSWER,
        ),
        "answer_variance_share": (
            answer_variance_share(weights, np.asarray(answers_N)) if told else None,
            NO_VARIANCE if told else NO_ANSWER,
        ),
        "linear_input_share": (
            linear_input_share(weights, inputs),
            "not available, because inputs differ in length, or are too few for their tokens",
        ),
        "dimension_over_null": (dimension_over_null(weights, ridge=ridge, seed=seed), NO_VARIANCE),
    }
    return [
        {
            "domain": domain,
            "layer": None,
            "measure": measure,
            "value": value,
            "baseline": None,
            "baseline_kind": None,
            "num_tokens": len(weights),
            "note": why_not if value is None else None,
        }
        for measure, (value, why_not) in values.items()
    ]


def null_rows(
    domain: str,
    routing_weights_NLK: NDArray[np.floating],
    threshold: float,
    *,
    max_pairs: int,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `nulls`, and the candidates of `routing_measures` that are ratios to them.

    All distances are means over the same drawn pairs, so that ratios compare like with like.
    """
    weights = np.asarray(routing_weights_NLK, dtype=np.float64)
    routings = {None: weights} | {
        kind: null_routing(weights, kind, seed) for kind in DISTANCE_NULLS
    }
    means: dict[tuple[Any, ...], float] = {}
    num_pairs = 0
    for kind, routing in routings.items():
        for unit, normalize in NULL_MONITORS:
            mean = mean_pairwise_distance(
                pathways_in_unit(routing, threshold, unit),
                normalize=normalize,
                max_pairs=max_pairs,
                seed=seed,
            )
            means[kind, unit, normalize], num_pairs = mean.mean, mean.num_pairs
    rows = [
        {
            "domain": domain,
            "monitor": NULL_MONITORS[unit, normalize],
            "null_kind": kind,
            "value": means[None, unit, normalize],
            "null_value": means[kind, unit, normalize],
            "num_pairs": num_pairs,
        }
        for kind in DISTANCE_NULLS
        for unit, normalize in NULL_MONITORS
    ]
    own = means[None, "expert", False]
    entropy = float(routing_entropy(weights).mean())
    ratios = {
        "distance_over_null": (own, means["load_preserving", "expert", False]),
        "distance_over_chance": (own, means["relabelled_experts", "expert", False]),
        "distance_per_entropy": (own, entropy),
    }
    measures = [
        {
            "domain": domain,
            "layer": None,
            "measure": measure,
            "value": above / below if below > 1e-9 else None,
            "baseline": None,
            "baseline_kind": None,
            "num_tokens": len(weights),
            "note": None if below > 1e-9 else "not available, because what it is divided by is 0",
        }
        for measure, (above, below) in ratios.items()
    ]
    return rows, measures
