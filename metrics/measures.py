"""Everything that is measured on the routing of one set of samples, as tidy rows.

This module only composes: the measures are defined in other modules
(:mod:`metrics.distances`, :mod:`metrics.consistency`, :mod:`metrics.bound`, ...).

Shape suffixes: N samples, L MoE layers, K experts per layer, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.bound import BoundTerms, bound_terms, gating_features, kernel_features, one_hot_targets
from metrics.consistency import (
    MAX_ILL_CONDITIONED_SHARE,
    ConsistencyScores,
    consecutive_cosines,
    pathway_consistency,
    summarize_consistency,
)
from metrics.distances import layer_distances, mean_pairwise_distance
from metrics.pairs import PairwiseMean
from metrics.pathways import pathway_lengths, pathway_strings, pathways_in_unit, routing_entropy
from metrics.sample_routing import hellinger_spread, routing_variance


@dataclass(frozen=True)
class Row:
    """One measured number; column meanings as in the warehouse table `pathway_metrics`."""

    scope: str
    metric: str
    value: float | None
    num_samples: int
    layer: int | None = None
    low: float | None = None
    high: float | None = None
    num_pairs: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class PairSettings:
    """How pairwise means are taken: all pairs, or a seeded sample of at most `max_pairs`."""

    threshold: float
    max_pairs: int | None
    seed: int


def distance_rows(
    routing_weights_NLK: NDArray[np.floating], settings: PairSettings, *, scope: str = "domain"
) -> list[Row]:
    """Pathway distance in both units, raw and length-normalised; N at least 2."""
    rows = []
    for unit in ("character", "expert"):
        pathways = pathways_in_unit(routing_weights_NLK, settings.threshold, unit)
        for normalize in (False, True):
            mean = mean_pairwise_distance(
                pathways, normalize=normalize, max_pairs=settings.max_pairs, seed=settings.seed
            )
            name = "pathway_distance" if unit == "character" else "pathway_distance_expert"
            rows.append(
                _pairwise(scope, name + ("_normalized" if normalize else ""), mean, len(pathways))
            )
    return rows


def domain_rows(
    routing_weights_NLK: NDArray[np.floating],
    router_weights_LKD: NDArray[np.floating],
    settings: PairSettings,
) -> list[Row]:
    """All measures of a domain: over complete pathways, per layer and per pair of layers."""
    return [
        *distance_rows(routing_weights_NLK, settings),
        *_consistency_rows(routing_weights_NLK, router_weights_LKD),
        *_shape_rows(routing_weights_NLK, settings.threshold),
        *_layer_rows(routing_weights_NLK, settings),
    ]


def global_rows(
    routing_weights_NLK: NDArray[np.floating],
    router_weights_LKD: NDArray[np.floating],
    settings: PairSettings,
) -> list[Row]:
    """Distance and consistency over the samples of all domains together (scope `global`)."""
    smooth = _consistency_rows(routing_weights_NLK, router_weights_LKD)
    return [
        *distance_rows(routing_weights_NLK, settings, scope="global"),
        *(replace(row, scope="global") for row in smooth if row.scope == "domain"),
    ]


def group_rows(
    routing_weights_NLK: NDArray[np.floating],
    router_weights_LKD: NDArray[np.floating],
    losses_N: NDArray[np.floating],
    settings: PairSettings,
) -> list[Row]:
    """Distance, consistency and mean loss of a group of samples memorized at one step."""
    num_samples = len(routing_weights_NLK)
    smooth = _consistency_rows(routing_weights_NLK, router_weights_LKD)
    return [
        *distance_rows(routing_weights_NLK, settings, scope="group"),
        *(
            replace(row, scope="group")
            for row in smooth
            if row.scope == "domain" and not row.metric.endswith("_centred")
        ),
        Row("group", "training_loss", float(np.mean(losses_N)), num_samples),
    ]


def sample_rows(
    routing_weights_NLK: NDArray[np.floating],
    router_weights_LKD: NDArray[np.floating],
    threshold: float,
) -> dict[str, Any]:
    """Columns [N] of the table `sample_pathways`: pathway, its length, smoothness, entropy."""
    columns: dict[str, Any] = {
        "pathway": pathway_strings(routing_weights_NLK, threshold),
        "pathway_length": pathway_lengths(routing_weights_NLK, threshold)[0],
        "routing_entropy": routing_entropy(routing_weights_NLK).mean(axis=-1),
    }
    num_samples, num_layers, _ = routing_weights_NLK.shape
    if num_layers < 2:
        missing = [None] * num_samples
        return columns | {"roughness": missing, "mean_cosine": missing, "max_cosine": missing}
    scores = pathway_consistency(routing_weights_NLK, router_weights_LKD)
    return columns | {
        "roughness": scores.roughness_N,
        "mean_cosine": scores.mean_cosine_N,
        "max_cosine": scores.max_cosine_N,
    }


def domain_bound(
    routing_weights_NLK: NDArray[np.floating],
    answers_N: Sequence[int] | None,
    *,
    ridge: float,
    noise_variance: float,
    confidence: float,
) -> BoundTerms:
    """Terms of the excess-risk bound with the gating kernel (see also :func:`tangent_bound`).

    The paper leaves the regression target of a language model open. Where every sample has one
    answer token, the target is the centred one-hot answer, which is the same at every checkpoint;
    elsewhere there is no such target, and bias and total are None.
    """
    return bound_terms(
        gating_features(routing_weights_NLK),
        None if answers_N is None else one_hot_targets(answers_N),
        ridge=ridge,
        noise_variance=noise_variance,
        confidence=confidence,
    )


def tangent_bound(
    kernel_NN: NDArray[np.floating],
    answers_N: Sequence[int] | None,
    *,
    ridge: float,
    noise_variance: float,
    confidence: float,
) -> BoundTerms:
    """The same terms with the experts' tangent kernel (mean diagonal 1) of some samples."""
    return bound_terms(
        kernel_features(kernel_NN),
        None if answers_N is None else one_hot_targets(answers_N),
        ridge=ridge,
        noise_variance=noise_variance,
        confidence=confidence,
    )


def row_dict(row: Row) -> dict[str, Any]:
    """The row as a mapping."""
    return asdict(row)


def _pairwise(
    scope: str, metric: str, mean: PairwiseMean, num_samples: int, layer: int | None = None
) -> Row:
    return Row(
        scope=scope,
        metric=metric,
        value=mean.mean,
        num_samples=num_samples,
        layer=layer,
        low=None if mean.exact else mean.low,
        high=None if mean.exact else mean.high,
        num_pairs=mean.num_pairs,
        note=None if mean.exact else f"{mean.num_pairs:,} of {mean.num_total_pairs:,} pairs",
    )


def _consistency_rows(
    routing_weights_NLK: NDArray[np.floating], router_weights_LKD: NDArray[np.floating]
) -> list[Row]:
    num_samples, num_layers, _ = routing_weights_NLK.shape
    if num_layers < 2:
        note = "not available, because the model has one MoE layer"
        return [Row("domain", "pathway_consistency_median", None, num_samples, note=note)]
    rows = []
    for centred in (False, True):
        scores = pathway_consistency(routing_weights_NLK, router_weights_LKD, centred=centred)
        rows += _smoothness(scores, "_centred" if centred else "")
        cosines_NP = consecutive_cosines(routing_weights_NLK, router_weights_LKD, centred=centred)
        rows += [
            Row(
                "layer_pair",
                "cosine_centred" if centred else "cosine",
                float(mean),
                num_samples,
                layer,
            )
            for layer, mean in enumerate(cosines_NP.mean(axis=0))
        ]
    return rows


def _smoothness(scores: ConsistencyScores, suffix: str) -> list[Row]:
    """Ratios are None where too many samples are ill-conditioned; the plain cosine always holds."""
    summary = summarize_consistency(scores)
    sound = summary.num_ill_conditioned <= MAX_ILL_CONDITIONED_SHARE * summary.num_samples
    note = (
        f"{summary.num_ill_conditioned} of {summary.num_samples} samples are ill-conditioned"
        if summary.num_ill_conditioned
        else None
    )
    ratios = {
        "pathway_roughness_mean": summary.mean_roughness,
        "pathway_roughness_median": summary.median_roughness,
        "pathway_consistency_mean": summary.mean_consistency,
        "pathway_consistency_median": summary.median_consistency,
    }
    others = {
        "layer_cosine": summary.mean_cosine,
        "num_ill_conditioned": float(summary.num_ill_conditioned),
    }
    missing = f"not available, because {note}"
    return [
        Row("domain", metric + suffix, value, summary.num_samples, note=note)
        if sound
        else Row("domain", metric + suffix, None, summary.num_samples, note=missing)
        for metric, value in ratios.items()
    ] + [
        Row("domain", metric + suffix, value, summary.num_samples, note=note)
        for metric, value in others.items()
    ]


def _shape_rows(routing_weights_NLK: NDArray[np.floating], threshold: float) -> list[Row]:
    values = {
        "pathway_length": pathway_lengths(routing_weights_NLK, threshold)[0].mean(),
        "routing_entropy": routing_entropy(routing_weights_NLK).mean(),
        "hellinger_spread": hellinger_spread(routing_weights_NLK),
        "routing_variance": routing_variance(routing_weights_NLK),
    }
    return [
        Row("domain", metric, float(value), len(routing_weights_NLK))
        for metric, value in values.items()
    ]


def _layer_rows(routing_weights_NLK: NDArray[np.floating], settings: PairSettings) -> list[Row]:
    num_samples = len(routing_weights_NLK)
    rows = []
    for normalize in (False, True):
        means = layer_distances(
            routing_weights_NLK,
            settings.threshold,
            normalize=normalize,
            max_pairs=settings.max_pairs,
            seed=settings.seed,
        )
        name = "pathway_distance_expert" + ("_normalized" if normalize else "")
        rows += [
            _pairwise("layer", name, mean, num_samples, layer) for layer, mean in enumerate(means)
        ]
    lengths_L = pathway_lengths(routing_weights_NLK, settings.threshold)[1].mean(axis=0)
    entropy_L = routing_entropy(routing_weights_NLK).mean(axis=0)
    for layer, (length, entropy) in enumerate(zip(lengths_L, entropy_L, strict=True)):
        rows.append(Row("layer", "pathway_length", float(length), num_samples, layer))
        rows.append(Row("layer", "routing_entropy", float(entropy), num_samples, layer))
    return rows
