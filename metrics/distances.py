"""Pathway distance: how unlike the routes of two samples are (arXiv 2506.21551, sec. 4.1).

The distance of two pathways is the Levenshtein distance of their symbols. A group's number is the
mean over its pairs of samples: over all pairs where they are affordable, otherwise over a seeded
draw of the pairs, with an interval that states what drawing costs. Samples that share a pathway
are compared once and counted as often as they occur (early in pretraining most samples share one),
and a distance matrix exists only block by block, so memory stays bounded for any N. A core
compares roughly 40,000 strings of 700 characters a second.

Shapes: N, M samples, L MoE layers, K experts, P pairs, U, V distinct pathways of two sets, R rows
of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from metrics.checks import check_routing_weights
from metrics.pairs import (
    PairwiseMean,
    draw_distinct,
    draw_pairs,
    exact_mean,
    num_pairs_of,
    pair_limit_of,
    sampled_mean,
)
from metrics.pathways import DEFAULT_THRESHOLD, pathways_in_unit

Pathway = str | Sequence[int] | NDArray[np.integer]
"""A pathway string, or a sequence of symbols from 0 to 0x10FFFF (see `pathway_symbols`)."""

CELLS_AT_ONCE = 2_000_000
"""Largest block of a distance matrix in memory: 8 MB of int32, 16 MB more while summed."""


class PairDistances(NamedTuple):
    """Indices of the two samples of single pairs, and their distances in edits."""

    first_P: NDArray[np.int64]
    second_P: NDArray[np.int64]
    distances_P: NDArray[np.float64]


def mean_pairwise_distance(
    pathways: Sequence[Pathway],
    *,
    normalize: bool = False,
    max_pairs: int | None = None,
    seed: int = 0,
) -> PairwiseMean:
    """Mean Levenshtein distance over the unordered pairs of samples of one group.

    Parameters
    ----------
    pathways : sequence of N pathways
        Strings (`character` unit) or integer sequences (`expert` unit); N at least 2.
    normalize : bool
        Divide each distance by the length of the longer pathway (0 for two empty ones).
    max_pairs : int, optional
        Most comparisons, at least 2; by default all pairs are compared. Where there are more pairs
        of *distinct* pathways, that many pairs are drawn instead.
    seed : int
        Seed of the draw.

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
    Student's t with m - 1 degrees of freedom. It is about the pairs of exactly these samples; how
    well the samples stand for their domain is another question. The normalised variant is ours:
    the raw distance also falls when pathways merely get shorter.

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
    group = _distinct_pathways(pathways)
    num_total_pairs = num_pairs_of(len(pathways))
    if num_pairs_of(len(group.texts)) <= pair_limit:
        return exact_mean(_sum_within(group, normalize), num_total_pairs)
    first_P, second_P = draw_pairs(len(pathways), pair_limit, seed)
    distances_P = _distances_of_pairs(group, group, first_P, second_P, normalize)
    return sampled_mean(distances_P, num_total_pairs)


def mean_cross_distance(
    pathways_a: Sequence[Pathway],
    pathways_b: Sequence[Pathway],
    *,
    normalize: bool = False,
    max_pairs: int | None = None,
    seed: int = 0,
) -> PairwiseMean:
    """Mean Levenshtein distance over the N * M pairs with one sample from each of two sets.

    `pathways_a` and `pathways_b` are in the same unit, at least one each; the rest as in
    `mean_pairwise_distance`, raising ValueError if a set is empty or `max_pairs` is below 2. The
    cross-domain control of arXiv 2506.21551, App. E.4 (math x code), which the paper expects to
    show no systematic trend.
    """
    if not len(pathways_a) or not len(pathways_b):
        raise ValueError(
            "a cross distance needs at least 1 pathway on each side, found "
            f"{len(pathways_a)} and {len(pathways_b)}"
        )
    pair_limit = pair_limit_of(max_pairs)
    group_a, group_b = _distinct_pathways(pathways_a), _distinct_pathways(pathways_b)
    num_total_pairs = len(pathways_a) * len(pathways_b)
    if len(group_a.texts) * len(group_b.texts) <= pair_limit:
        return exact_mean(_sum_between(group_a, group_b, normalize), num_total_pairs)
    pair_ids_P = draw_distinct(num_total_pairs, pair_limit, seed)
    first_P, second_P = np.divmod(pair_ids_P, len(pathways_b))
    distances_P = _distances_of_pairs(group_a, group_b, first_P, second_P, normalize)
    return sampled_mean(distances_P, num_total_pairs)


def layer_distances(
    routing_weights_NLK: NDArray[np.floating],
    threshold: float = DEFAULT_THRESHOLD,
    *,
    normalize: bool = False,
    max_pairs: int | None = None,
    seed: int = 0,
) -> list[PairwiseMean]:
    """Mean pairwise distance of the pathways inside each of the L layers, in experts.

    With `max_pairs`, the draw is the same in every layer that needs one; raises ValueError as
    `select_experts` and `mean_pairwise_distance`. arXiv 2506.21551, sec. 4.1, Fig. 5: its printed
    scale (6 to 16 edits for OLMoE) fits one symbol per expert.

    Examples
    --------
    >>> routing = np.array([[[0.8, 0.2], [0.5, 0.5]], [[0.2, 0.8], [0.5, 0.5]]])
    >>> [layer.mean for layer in layer_distances(routing)]
    [1.0, 0.0]
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    return [
        mean_pairwise_distance(
            pathways_in_unit(weights_NLK[:, [layer]], threshold, "expert"),
            normalize=normalize,
            max_pairs=max_pairs,
            seed=seed,
        )
        for layer in range(weights_NLK.shape[1])
    ]


def pair_distances(
    pathways: Sequence[Pathway], *, max_pairs: int | None = None, seed: int = 0
) -> PairDistances:
    """Distances of single pairs, for comparing them with other properties of the pairs.

    Each pair once, `first_P < second_P`, in rising order: all N (N - 1) / 2, or `max_pairs` drawn
    ones where there are more. Raises ValueError if there are fewer than two pathways or
    `max_pairs` is below 2.

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
    group = _distinct_pathways(pathways)
    distances_P = _distances_of_pairs(group, group, first_P, second_P, normalize=False)
    return PairDistances(first_P, second_P, distances_P)


@dataclass(frozen=True)
class _DistinctPathways:
    """The distinct pathways of a set of samples, in order of first appearance.

    One character per symbol; with the number of symbols and of samples, and by sample which it has.
    """

    texts: list[str]
    lengths_U: NDArray[np.int64]
    counts_U: NDArray[np.int64]
    index_N: NDArray[np.int64]

    def rows(self, start: int, stop: int | None = None) -> "_DistinctPathways":
        """Only the distinct pathways `start` to `stop`."""
        part = slice(start, stop)
        return _DistinctPathways(
            self.texts[part], self.lengths_U[part], self.counts_U[part], self.index_N
        )


def _distinct_pathways(pathways: Sequence[Pathway]) -> _DistinctPathways:
    positions: dict[str, int] = {}
    index_N = np.array(
        [positions.setdefault(_as_text(pathway), len(positions)) for pathway in pathways],
        dtype=np.int64,
    )
    texts = list(positions)
    lengths_U = np.array([len(text) for text in texts], dtype=np.int64)
    return _DistinctPathways(texts, lengths_U, np.bincount(index_N), index_N)


def _sum_within(group: _DistinctPathways, normalize: bool) -> float:
    """Sum of the distances over all unordered pairs of samples of one set.

    Samples with the same pathway add 0, so pairs of distinct pathways are enough, each weighted
    with the product of the counts. Raw sums are integers and exact.
    """
    total = 0.0
    rows_at_once = max(1, CELLS_AT_ONCE // len(group.texts))
    for start in range(0, len(group.texts), rows_at_once):
        block, rest = group.rows(start, start + rows_at_once), group.rows(start + rows_at_once)
        total += _weighted_sum(block, block, normalize) / 2
        total += _weighted_sum(block, rest, normalize)
    return total


def _sum_between(group_a: _DistinctPathways, group_b: _DistinctPathways, normalize: bool) -> float:
    """Sum of the distances over all pairs with one sample from each set."""
    rows_at_once = max(1, CELLS_AT_ONCE // len(group_b.texts))
    return sum(
        _weighted_sum(group_a.rows(start, start + rows_at_once), group_b, normalize)
        for start in range(0, len(group_a.texts), rows_at_once)
    )


def _distances_of_pairs(
    group_a: _DistinctPathways,
    group_b: _DistinctPathways,
    first_P: NDArray[np.int64],
    second_P: NDArray[np.int64],
    normalize: bool,
) -> NDArray[np.float64]:
    """Distance of sample `first_P` of one set and `second_P` of the other; equal pairs once."""
    num_distinct_b = len(group_b.texts)
    comparisons_P = group_a.index_N[first_P] * num_distinct_b + group_b.index_N[second_P]
    comparisons, position_P = np.unique(comparisons_P, return_inverse=True)
    rows_a, rows_b = np.divmod(comparisons, num_distinct_b)
    edits = process.cpdist(
        [group_a.texts[row] for row in rows_a.tolist()],
        [group_b.texts[row] for row in rows_b.tolist()],
        scorer=Levenshtein.distance,
        dtype=np.int32,
    ).astype(np.float64)
    if normalize:
        edits /= _longer(group_a.lengths_U[rows_a], group_b.lengths_U[rows_b])
    distances_P: NDArray[np.float64] = edits[position_P]
    return distances_P


def _weighted_sum(rows: _DistinctPathways, columns: _DistinctPathways, normalize: bool) -> float:
    """Sum over one block of the distance matrix, weighted with the counts of both sides."""
    if not columns.texts:
        return 0.0
    # Where both lists are one object, rapidfuzz computes half of the symmetric block.
    block_RV: NDArray[Any] = process.cdist(
        rows.texts, columns.texts, scorer=Levenshtein.distance, dtype=np.int32
    )
    if normalize:
        block_RV = block_RV / _longer(rows.lengths_U[:, np.newaxis], columns.lengths_U)
    return float(rows.counts_U @ block_RV @ columns.counts_U)


def _longer(lengths_a: NDArray[np.int64], lengths_b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Length of the longer pathway; 1 for two empty ones, whose distance is 0 anyway."""
    return np.maximum(np.maximum(lengths_a, lengths_b), 1)


def _as_text(pathway: Pathway) -> str:
    """Map integer symbols to code points, which rapidfuzz compares fastest."""
    if isinstance(pathway, str):
        return pathway
    return np.asarray(pathway, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
