"""Pathway distance: how unlike the routes of two samples are (arXiv 2506.21551, sec. 4.1).

The distance of two pathways is the Levenshtein distance of their symbols (`metrics.edits`).
A group's number is the mean over its pairs of samples: over all pairs where they are affordable,
otherwise over a seeded sample of the pairs, with an interval that says what the sampling costs.
Samples that share a pathway are compared once and counted as often as they occur: early in
pretraining most samples share one.

Shape legend: N, M samples, L MoE layers, K experts, P pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.checks import check_routing_weights
from metrics.edits import (
    Pathway,
    distances_of_pairs,
    distinct_pathways,
    sum_between,
    sum_within,
)
from metrics.pairs import (
    PairwiseMean,
    draw_distinct,
    draw_pairs,
    exact_mean,
    num_pairs_of,
    pair_limit_of,
    sampled_mean,
)
from metrics.pathways import DEFAULT_THRESHOLD, Unit, check_unit, pathways_in_unit

__all__ = [
    "PairwiseMean",
    "PairDistances",
    "mean_pairwise_distance",
    "mean_cross_distance",
    "layer_distances",
    "pair_distances",
]


class PairDistances(NamedTuple):
    """Single pairs and their distances."""

    first_P: NDArray[np.int64]
    """Index of one sample of each pair."""
    second_P: NDArray[np.int64]
    """Index of the other."""
    distances_P: NDArray[np.float64]
    """Distance: edits, or a share in [0, 1] where normalised."""


def mean_pairwise_distance(
    pathways: Sequence[Pathway],
    *,
    normalize: bool = False,
    max_pairs: int | None = None,
    seed: int = 0,
    num_workers: int = 1,
) -> PairwiseMean:
    """Mean Levenshtein distance over the unordered pairs of samples of one group.

    Parameters
    ----------
    pathways : sequence of N pathways
        Strings (`character` unit) or integer sequences (`expert` unit); N at least 2.
    normalize : bool
        Divide each distance by the length of the longer pathway (0 for two empty ones).
    max_pairs : int, optional
        Most comparisons to make, at least 2; by default all pairs are compared. Where there are
        more pairs of *distinct* pathways, that many pairs are drawn instead.
    seed : int
        Seed of the draw.
    num_workers : int
        Threads of rapidfuzz, -1 for all cores. Changes the time, never the numbers.

    Returns
    -------
    PairwiseMean
        Lower = samples are routed more alike.

    Raises
    ------
    ValueError
        If there are fewer than two pathways or `max_pairs` is below 2.

    Notes
    -----
    D_path of arXiv 2506.21551, sec. 4.1. Pairs are drawn uniformly and without replacement, so
    the standard error is s / sqrt(m) * sqrt(1 - m / M) for m of M pairs, and the interval uses
    Student's t with m - 1 degrees of freedom. It speaks about the pairs of exactly these samples;
    how well the samples stand for their domain is another question. The normalised variant is
    ours: the raw distance also falls when pathways merely get shorter.

    An idle core makes roughly 40,000 comparisons of 700-character strings a second; memory
    stays bounded for any N.

    Examples
    --------
    >>> mean_pairwise_distance(["3,1-0", "3,1-0", "3,2-0"]).mean
    0.6666666666666666
    """
    if len(pathways) < 2:
        raise ValueError(
            f"a pairwise distance needs at least 2 pathways, found {len(pathways)}; "
            "leave groups of one sample out or merge them with a neighbouring group"
        )
    pair_limit = pair_limit_of(max_pairs)
    group = distinct_pathways(pathways)
    num_total_pairs = num_pairs_of(len(pathways))
    if num_pairs_of(len(group.texts)) <= pair_limit:
        total = sum_within(group, normalize, num_workers)
        return exact_mean(total, num_total_pairs)
    first_P, second_P = draw_pairs(len(pathways), pair_limit, seed)
    distances_P = distances_of_pairs(group, group, first_P, second_P, normalize, num_workers)
    return sampled_mean(distances_P, num_total_pairs)


def mean_cross_distance(
    pathways_a: Sequence[Pathway],
    pathways_b: Sequence[Pathway],
    *,
    normalize: bool = False,
    max_pairs: int | None = None,
    seed: int = 0,
    num_workers: int = 1,
) -> PairwiseMean:
    """Mean Levenshtein distance over the pairs with one sample from each of two sets.

    Parameters
    ----------
    pathways_a, pathways_b : sequences of N and M pathways
        In the same unit; at least one each.
    normalize, max_pairs, seed, num_workers
        As in `mean_pairwise_distance`.

    Returns
    -------
    PairwiseMean
        Over the N * M pairs.

    Raises
    ------
    ValueError
        If a set is empty or `max_pairs` is below 2.

    Notes
    -----
    The cross-domain control of arXiv 2506.21551, App. E.4 (math x code), which the paper expects
    to show no systematic trend.

    Examples
    --------
    >>> mean_cross_distance(["3,1", "3,2"], ["3,2"]).mean
    0.5
    """
    if not len(pathways_a) or not len(pathways_b):
        raise ValueError(
            "a cross distance needs at least 1 pathway on each side, found "
            f"{len(pathways_a)} and {len(pathways_b)}"
        )
    pair_limit = pair_limit_of(max_pairs)
    group_a, group_b = distinct_pathways(pathways_a), distinct_pathways(pathways_b)
    num_total_pairs = len(pathways_a) * len(pathways_b)
    if len(group_a.texts) * len(group_b.texts) <= pair_limit:
        total = sum_between(group_a, group_b, normalize, num_workers)
        return exact_mean(total, num_total_pairs)
    pair_ids_P = draw_distinct(num_total_pairs, pair_limit, seed)
    first_P, second_P = np.divmod(pair_ids_P, len(pathways_b))
    distances_P = distances_of_pairs(group_a, group_b, first_P, second_P, normalize, num_workers)
    return sampled_mean(distances_P, num_total_pairs)


def layer_distances(
    routing_weights_NLK: NDArray[np.floating],
    threshold: float = DEFAULT_THRESHOLD,
    unit: Unit = "expert",
    *,
    normalize: bool = False,
    max_pairs: int | None = None,
    seed: int = 0,
    num_workers: int = 1,
) -> list[PairwiseMean]:
    """Mean pairwise distance of the pathways inside each layer.

    Returns
    -------
    list of L PairwiseMean
        In layer order; with `max_pairs`, the draw is the same in every layer that needs one.

    Raises
    ------
    ValueError
        As `select_experts` and `mean_pairwise_distance`, or for an unknown unit.

    Notes
    -----
    arXiv 2506.21551, sec. 4.1, Fig. 5. The default unit is `expert`: the printed per-layer scale
    (6 to 16 edits for OLMoE) fits one symbol per expert.

    Examples
    --------
    >>> routing = np.array([[[0.8, 0.2], [0.5, 0.5]], [[0.2, 0.8], [0.5, 0.5]]])
    >>> [layer.mean for layer in layer_distances(routing)]
    [1.0, 0.0]
    """
    check_unit(unit)
    weights_NLK = check_routing_weights(routing_weights_NLK)
    return [
        mean_pairwise_distance(
            pathways_in_unit(weights_NLK[:, layer : layer + 1], threshold, unit),
            normalize=normalize,
            max_pairs=max_pairs,
            seed=seed,
            num_workers=num_workers,
        )
        for layer in range(weights_NLK.shape[1])
    ]


def pair_distances(
    pathways: Sequence[Pathway],
    *,
    normalize: bool = False,
    max_pairs: int | None = None,
    seed: int = 0,
    num_workers: int = 1,
) -> PairDistances:
    """Distances of single pairs, for comparing them with other properties of the pairs.

    Parameters
    ----------
    pathways, normalize, seed, num_workers
        As in `mean_pairwise_distance`.
    max_pairs : int, optional
        Pairs to draw where there are more; by default all N (N - 1) / 2 pairs, which for 10,000
        samples are 50 million.

    Returns
    -------
    PairDistances
        Each pair once, `first_P < second_P`, in rising order.

    Raises
    ------
    ValueError
        If there are fewer than two pathways or `max_pairs` is below 2.

    Notes
    -----
    For the entropy control of arXiv 2506.21551, App. E.5: correlate `distances_P` with the mean
    routing entropy of the two samples (the paper finds r = 0.24 over 141,530 pairs).

    Examples
    --------
    >>> pair_distances(["3", "3,1", "3"]).distances_P.tolist()
    [2.0, 0.0, 2.0]
    """
    if len(pathways) < 2:
        raise ValueError(f"pair distances need at least 2 pathways, found {len(pathways)}")
    pair_limit = pair_limit_of(max_pairs)
    if num_pairs_of(len(pathways)) <= pair_limit:
        first_P, second_P = np.triu_indices(len(pathways), k=1)
    else:
        first_P, second_P = draw_pairs(len(pathways), pair_limit, seed)
    group = distinct_pathways(pathways)
    distances_P = distances_of_pairs(group, group, first_P, second_P, normalize, num_workers)
    return PairDistances(first_P, second_P, distances_P)
