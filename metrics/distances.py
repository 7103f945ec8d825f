"""Pathway distance: how unlike the routes of two samples are (arXiv 2506.21551, sec. 4.1).

The distance of two pathways is the Levenshtein distance of their symbols. A group's number is the
mean over its pairs of samples: over all pairs where they are affordable, otherwise over a seeded
draw of the pairs, with an interval that states what drawing costs. Samples that share a pathway
are compared once and counted as often as they occur (early in pretraining most samples share one),
and a distance matrix exists only block by block, so memory stays bounded for any N.

Shapes: N, M samples, L MoE layers, K experts, P pairs, U, V distinct pathways of two sets, R rows
of a block.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from scipy.special import stdtrit

from metrics.checks import check_routing_weights
from metrics.pathways import DEFAULT_THRESHOLD, Unit, check_unit, pathways_in_unit

Pathway = str | Sequence[int] | NDArray[np.integer]
"""A pathway string, or a sequence of symbols from 0 to 0x10FFFF (see `pathway_symbols`)."""


CELLS_AT_ONCE = 2_000_000
"""Largest block of a distance matrix held at once: 8 MB of int32, 16 MB more while summed."""


@dataclass(frozen=True)
class PairwiseMean:
    """The mean distance over pairs of samples, and how well it is known."""

    mean: float
    """Mean distance over the pairs looked at: edits, or a share in [0, 1] where normalised."""
    std_error: float
    """Standard error from looking at some pairs only; 0 where all pairs were looked at."""
    low: float
    """Lower end of the 95 % interval of the mean over all pairs of these samples."""
    high: float
    """Upper end of that interval."""
    num_pairs: int
    """Pairs looked at."""
    num_total_pairs: int
    """Pairs there are."""
    exact: bool
    """Whether all pairs were looked at."""


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


def num_pairs_of(num_samples: int) -> int:
    """Unordered pairs of different samples."""
    return num_samples * (num_samples - 1) // 2


def draw_pairs(
    num_samples: int, num_drawn: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw distinct unordered pairs of samples, the smaller index first."""
    pair_ids_P = draw_distinct(num_pairs_of(num_samples), num_drawn, seed)
    # Pairs are numbered row by row through the upper triangle: row i starts at row_starts[i].
    rows = np.arange(num_samples, dtype=np.int64)
    row_starts = rows * (2 * num_samples - rows - 1) // 2
    first_P = np.searchsorted(row_starts[:-1], pair_ids_P, side="right") - 1
    return first_P, first_P + 1 + pair_ids_P - row_starts[first_P]


def draw_distinct(num_total: int, num_drawn: int, seed: int) -> NDArray[np.int64]:
    """Draw distinct numbers below `num_total` uniformly, in rising order.

    Memory follows the draw, not the total: `Generator.choice` without replacement may lay out
    all 50 million pairs of 10,000 samples. Drawing on until enough numbers differ is uniform too.
    """
    rng = np.random.default_rng(seed)
    if num_drawn > num_total // 2:
        return np.sort(rng.choice(num_total, num_drawn, replace=False, shuffle=False))
    drawn = np.unique(rng.integers(num_total, size=num_drawn))
    while len(drawn) < num_drawn:
        more = rng.integers(num_total, size=num_drawn - len(drawn))
        drawn = np.union1d(drawn, more)
    return drawn


def pair_limit_of(max_pairs: int | None) -> int:
    """Most pairs to compare; raises ValueError where a draw could have no standard error."""
    if max_pairs is not None and max_pairs < 2:
        raise ValueError(
            f"max_pairs must be at least 2 for a standard error, found {max_pairs}; "
            "leave it out to compare all pairs"
        )
    return sys.maxsize if max_pairs is None else max_pairs


def exact_mean(total: float, num_pairs: int) -> PairwiseMean:
    """Mean over all pairs, which is known without error."""
    mean = total / num_pairs
    return PairwiseMean(mean, 0.0, mean, mean, num_pairs, num_pairs, exact=True)


def sampled_mean(distances_P: NDArray[np.float64], num_total_pairs: int) -> PairwiseMean:
    """Mean, standard error and 95 % interval of a draw without replacement."""
    num_pairs = len(distances_P)
    mean = float(distances_P.mean())
    unseen_share = 1 - num_pairs / num_total_pairs
    std_error = float(distances_P.std(ddof=1) * np.sqrt(unseen_share / num_pairs))
    margin = float(stdtrit(num_pairs - 1, 0.975)) * std_error
    low, high = max(0.0, mean - margin), mean + margin
    return PairwiseMean(mean, std_error, low, high, num_pairs, num_total_pairs, exact=False)


@dataclass(frozen=True)
class DistinctPathways:
    """The distinct pathways of a set of samples, in order of first appearance."""

    texts: list[str]
    """U pathways as strings, one character per symbol."""
    lengths_U: NDArray[np.int64]
    """Symbols of each."""
    counts_U: NDArray[np.int64]
    """Samples that have it."""
    index_N: NDArray[np.int64]
    """Which one each sample has."""

    def rows(self, start: int, stop: int | None = None) -> "DistinctPathways":
        """The distinct pathways `start` to `stop`, with `index_N` left as it is."""
        part = slice(start, stop)
        return DistinctPathways(
            self.texts[part], self.lengths_U[part], self.counts_U[part], self.index_N
        )


def distinct_pathways(pathways: Sequence[Pathway]) -> DistinctPathways:
    """Find the distinct pathways and how often each occurs."""
    positions: dict[str, int] = {}
    index_N = np.array(
        [positions.setdefault(_as_text(pathway), len(positions)) for pathway in pathways],
        dtype=np.int64,
    )
    texts = list(positions)
    lengths_U = np.array([len(text) for text in texts], dtype=np.int64)
    return DistinctPathways(texts, lengths_U, np.bincount(index_N), index_N)


def sum_within(group: DistinctPathways, normalize: bool, num_workers: int) -> float:
    """Sum of the distances over all unordered pairs of samples of one set.

    Samples with the same pathway add 0, so pairs of distinct pathways are enough, each weighted
    with the product of the counts. Raw sums are whole numbers and exact.
    """
    total = 0.0
    rows_at_once = max(1, CELLS_AT_ONCE // len(group.texts))
    for start in range(0, len(group.texts), rows_at_once):
        block, rest = group.rows(start, start + rows_at_once), group.rows(start + rows_at_once)
        total += _weighted_sum(block, block, normalize, num_workers) / 2
        total += _weighted_sum(block, rest, normalize, num_workers)
    return total


def sum_between(
    group_a: DistinctPathways, group_b: DistinctPathways, normalize: bool, num_workers: int
) -> float:
    """Sum of the distances over all pairs with one sample from each set."""
    rows_at_once = max(1, CELLS_AT_ONCE // len(group_b.texts))
    return sum(
        _weighted_sum(group_a.rows(start, start + rows_at_once), group_b, normalize, num_workers)
        for start in range(0, len(group_a.texts), rows_at_once)
    )


def distances_of_pairs(
    group_a: DistinctPathways,
    group_b: DistinctPathways,
    first_P: NDArray[np.int64],
    second_P: NDArray[np.int64],
    normalize: bool,
    num_workers: int,
) -> NDArray[np.float64]:
    """Distance of sample `first_P` of one set and sample `second_P` of the other, pair by pair.

    Pairs of samples that amount to the same pair of pathways are compared once.
    """
    num_distinct_b = len(group_b.texts)
    comparisons_P = group_a.index_N[first_P] * num_distinct_b + group_b.index_N[second_P]
    comparisons, position_P = np.unique(comparisons_P, return_inverse=True)
    rows_a, rows_b = np.divmod(comparisons, num_distinct_b)
    edits = process.cpdist(
        [group_a.texts[row] for row in rows_a.tolist()],
        [group_b.texts[row] for row in rows_b.tolist()],
        scorer=Levenshtein.distance,
        dtype=np.int32,
        workers=num_workers,
    ).astype(np.float64)
    if normalize:
        edits /= _longer(group_a.lengths_U[rows_a], group_b.lengths_U[rows_b])
    distances_P: NDArray[np.float64] = edits[position_P]
    return distances_P


def _weighted_sum(
    rows: DistinctPathways, columns: DistinctPathways, normalize: bool, num_workers: int
) -> float:
    """Sum over one block of the distance matrix, weighted with the counts of both sides."""
    if not columns.texts:
        return 0.0
    # Where both lists are one object, rapidfuzz computes half of the symmetric block.
    block_RV: NDArray[Any] = process.cdist(
        rows.texts,
        columns.texts,
        scorer=Levenshtein.distance,
        dtype=np.int32,
        workers=num_workers,
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
