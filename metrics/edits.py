"""Levenshtein distances among many pathways, fast and in bounded memory.

The workings behind `metrics.distances`: rapidfuzz compares, samples that share a pathway are
compared once, and a distance matrix only ever exists block by block.

Shape legend: N samples, P pairs, U, V distinct pathways of two sets, R rows of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

Pathway = str | Sequence[int] | NDArray[np.integer]
"""A pathway string, or a sequence of symbols from 0 to 0x10FFFF (see `pathway_symbols`)."""

CELLS_AT_ONCE = 2_000_000
"""Largest block of a distance matrix held at once: 8 MB of int32, 16 MB more while summed."""


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
