"""Controls of the pathway distance: other settings, entropy, other domains, null routings.

Sources: arXiv 2506.21551, sec. 4.1 (thresholds), App. E.4 (pairs from two domains), App. E.5
(entropy). The null routings are ours.

Shapes: N samples, L MoE layers, K experts, P pairs of samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from metrics.checks import check_routing_weights
from metrics.distances import mean_cross_distance, mean_pairwise_distance, pair_distances
from metrics.pathways import Unit, pathways_in_unit, routing_entropy
from metrics.registry import measure_row
from metrics.resampling import pearson

ENTROPY_THRESHOLD = 0.8
"""The paper's entropy control is at tau 0.8."""

NUM_SHUFFLES = 199

UNITS: tuple[Unit, ...] = ("character", "expert")

NULL_MONITORS: dict[tuple[Unit, bool], str] = {
    ("character", False): "pathway_distance",
    ("character", True): "pathway_distance_normalized",
    ("expert", False): "pathway_distance_expert",
}

NullKind = Literal["shuffled_samples", "load_preserving", "relabelled_experts"]

DISTANCE_NULLS: tuple[NullKind, ...] = ("load_preserving", "relabelled_experts")
"""Nulls whose mean over pairs of samples differs from that of the real routing."""


def variant_rows(
    domain: str,
    routing_weights_NLK: NDArray[np.floating],
    thresholds: Sequence[float],
    *,
    max_pairs: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `distance_variants`; two samples of pairs (seed, seed + 1) each.

    Distances are computed once per threshold, unit and sample; the normalised mean divides each by
    the longer pathway (arXiv 2506.21551, sec. 4.1 and the threshold ablation of its appendix).
    """
    rows = []
    for threshold in thresholds:
        for unit in UNITS:
            pathways = pathways_in_unit(routing_weights_NLK, threshold, unit)
            lengths_N = np.array([len(pathway) for pathway in pathways])
            for pair_seed in (seed, seed + 1):
                pairs = pair_distances(pathways, max_pairs=max_pairs, seed=pair_seed)
                longer_P = np.maximum(lengths_N[pairs.first_P], lengths_N[pairs.second_P])
                for normalized, values_P in (
                    (False, pairs.distances_P),
                    (True, pairs.distances_P / np.maximum(longer_P, 1)),
                ):
                    rows.append(
                        {
                            "domain": domain,
                            "threshold": threshold,
                            "unit": unit,
                            "normalized": normalized,
                            "pair_seed": pair_seed,
                            "value": float(values_P.mean()),
                            "num_pairs": len(values_P),
                        }
                    )
    return rows


def cross_domain_rows(
    samples: dict[str, NDArray[np.floating]], threshold: float, *, max_pairs: int, seed: int
) -> list[dict[str, Any]]:
    """Mean pathway distance over pairs of samples from two different domains (App. E.4).

    The paper expects no trend here, as such samples have nothing to share. Distances in characters,
    raw and length-normalised. One row per pair of domains and metric.
    """
    strings = {
        domain: pathways_in_unit(weights, threshold, "character")
        for domain, weights in samples.items()
    }
    rows = []
    for one, other in combinations(samples, 2):
        for metric, normalize in (
            ("pathway_distance", False),
            ("pathway_distance_normalized", True),
        ):
            mean = mean_cross_distance(
                strings[one], strings[other], normalize=normalize, max_pairs=max_pairs, seed=seed
            )
            rows.append(
                {
                    "domain": one,
                    "other_domain": other,
                    "metric": metric,
                    "value": mean.mean,
                    "low": None if mean.exact else mean.low,
                    "high": None if mean.exact else mean.high,
                    "num_pairs": mean.num_pairs,
                }
            )
    return rows


def entropy_row(
    domain: str, routing_weights_NLK: NDArray[np.floating], *, max_pairs: int, seed: int
) -> dict[str, Any]:
    """Row of the table `entropy_control` (App. E.5), at the paper's threshold."""
    found = entropy_control(routing_weights_NLK, ENTROPY_THRESHOLD, max_pairs=max_pairs, seed=seed)
    return {"domain": domain, "threshold": ENTROPY_THRESHOLD, **vars(found)}


@dataclass(frozen=True)
class EntropyControl:
    """Correlation over pairs between mean routing entropy and pathway distance."""

    pearson: float | None
    spearman: float | None
    """-1 to 1; None where all distances or entropies are equal. The square of Pearson is the share
    of the distances' variance that goes with entropy."""
    p: float | None
    """Share of shuffles of the entropies over samples with at least this |Pearson|."""
    num_pairs: int
    """Pairs of samples; they share samples, so they are no independent points."""
    note: str | None = None
    """Why there is no number, or None."""


def entropy_control(
    routing_weights_NLK: NDArray[np.floating], threshold: float, *, max_pairs: int, seed: int
) -> EntropyControl:
    """Correlate the mean routing entropy of two samples with the distance of their pathways.

    Entropy of the full weight vector per layer, averaged over layers; pair entropy is the mean of
    the two. The paper reports r = 0.24 over 141,530 pairs. Pairs that share a sample depend on
    each other, so the p-value shuffles samples, not pairs (Mantel 1967).
    """
    entropy_N = routing_entropy(routing_weights_NLK).mean(axis=-1)
    pathways = pathways_in_unit(routing_weights_NLK, threshold, "character")
    pairs = pair_distances(pathways, max_pairs=max_pairs, seed=seed)
    first_P, second_P, distances_P = pairs.first_P, pairs.second_P, pairs.distances_P
    num_pairs = len(distances_P)
    entropies_P = (entropy_N[first_P] + entropy_N[second_P]) / 2
    for name, values_P in (("distances", distances_P), ("entropies", entropies_P)):
        if np.ptp(values_P) <= 1e-12 * max(1.0, float(np.abs(values_P).max())):
            note = f"not available, because all {name} are equal"
            return EntropyControl(None, None, None, num_pairs, note)
    found = pearson(entropies_P, distances_P)
    rng = np.random.default_rng(seed)
    as_large = 0
    for _ in range(NUM_SHUFFLES):
        shuffled_N = rng.permutation(entropy_N)
        other = pearson((shuffled_N[first_P] + shuffled_N[second_P]) / 2, distances_P)
        as_large += abs(other) >= abs(found)
    return EntropyControl(
        pearson=found,
        spearman=pearson(rankdata(entropies_P), rankdata(distances_P)),
        p=(as_large + 1) / (NUM_SHUFFLES + 1),
        num_pairs=num_pairs,
    )


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
    note = "not available, because what it is divided by is 0"
    measures = [
        measure_row(domain, measure, above / below, len(weights))
        if below > 1e-9
        else measure_row(domain, measure, None, len(weights), note=note)
        for measure, (above, below) in ratios.items()
    ]
    return rows, measures


def null_routing(routing_weights_NLK: ArrayLike, kind: NullKind, seed: int) -> NDArray[np.float64]:
    """Routing weights with the same sharpness and no meaning.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights.
    kind : str
        `shuffled_samples`: in each layer the samples' rows are dealt out anew, so that every layer
        stays as it is and what binds a sample's layers goes. The mean of a sum over layers, and
        so about that of a pathway distance, cannot change under it.
        `load_preserving`: in each layer every sample has its own weights by rank, and so its
        pathway's length, and draws the expert at each rank as often as the layer's samples have
        it there, among those not drawn yet: load stays nearly, who shares experts is chance.
        `relabelled_experts`: the same with all experts equally likely, so that only sharpness
        stays.
    seed : int
        Seed of the shuffles.

    Returns
    -------
    array of shape (N, L, K)

    Raises
    ------
    ValueError
        If the array holds no routing weights, or the kind is unknown.

    Examples
    --------
    >>> weights = np.array([[[0.7, 0.3]], [[0.2, 0.8]]])
    >>> sorted(null_routing(weights, "shuffled_samples", seed=0)[:, 0, 0].tolist())
    [0.2, 0.7]
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    rng = np.random.default_rng(seed)
    if kind == "shuffled_samples":
        order_NL = rng.permuted(
            np.tile(np.arange(len(weights_NLK))[:, None], weights_NLK.shape[1]), axis=0
        )
        return weights_NLK[order_NL, np.arange(weights_NLK.shape[1])]
    if kind == "load_preserving":
        return _drawn_by_rank(weights_NLK, rng)
    if kind == "relabelled_experts":
        return rng.permuted(weights_NLK, axis=-1)
    raise ValueError(f"null kind is {kind!r}, expected one of {', '.join(get_args(NullKind))}")


def _drawn_by_rank(
    weights_NLK: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    _, num_layers, num_experts = weights_NLK.shape
    ranked_NLK = np.argsort(-weights_NLK, axis=-1, kind="stable")
    sorted_NLK = np.take_along_axis(weights_NLK, ranked_NLK, axis=-1)
    null_NLK = np.empty_like(weights_NLK)
    taken_NLK = np.zeros(weights_NLK.shape, dtype=bool)
    at_layer = num_experts * np.arange(num_layers)
    for rank in range(num_experts):
        counts = np.bincount(
            (ranked_NLK[..., rank] + at_layer).ravel(), minlength=taken_NLK[0].size
        )
        logs_LK = np.log(np.maximum(counts.reshape(num_layers, num_experts), 1e-300))
        # The largest of log share + Gumbel noise is a draw in proportion to the shares.
        noisy_NLK = np.where(taken_NLK, -np.inf, logs_LK + rng.gumbel(size=weights_NLK.shape))
        drawn_NL1 = noisy_NLK.argmax(axis=-1)[..., np.newaxis]
        np.put_along_axis(taken_NLK, drawn_NL1, True, axis=-1)
        np.put_along_axis(null_NLK, drawn_NL1, sorted_NLK[..., [rank]], axis=-1)
    return null_NLK
