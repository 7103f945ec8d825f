"""Which training group goes with which benchmark group (arXiv 2506.21551, App. B.1).

Shapes: P training groups, Q benchmark groups, E dimensions of an embedding.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Pair:
    """A training group and the benchmark group matched to it.

    Attributes
    ----------
    memorization_step, generalization_step
        Steps p and q of Pretrain@p and Test@q.
    similarity
        Mean cosine similarity of their texts, -1 to 1.
    delay
        q - p, optimizer steps; negative where documents are answered before samples are memorized.
    """

    memorization_step: int
    generalization_step: int
    similarity: float
    delay: int


def group_means(embeddings_NE: ArrayLike, groups_N: ArrayLike) -> dict[int, NDArray[np.float64]]:
    """Mean normalised embedding [E] of each group, groups in rising order.

    The mean cosine over all pairs of two groups is the inner product of these means, so no matrix
    of pairs is needed.
    """
    embeddings_NE = np.asarray(embeddings_NE, dtype=np.float64)
    groups_N = np.asarray(groups_N)
    if len(embeddings_NE) != len(groups_N):
        raise ValueError(f"found {len(embeddings_NE)} embeddings and {len(groups_N)} groups")
    if not np.isfinite(embeddings_NE).all():
        bad = int((~np.isfinite(embeddings_NE)).any(axis=-1).sum())
        raise ValueError(f"{bad} of {len(embeddings_NE)} embeddings are not finite")
    lengths_N = np.linalg.norm(embeddings_NE, axis=1, keepdims=True)
    unit_NE = np.divide(
        embeddings_NE, lengths_N, out=np.zeros_like(embeddings_NE), where=lengths_N > 0
    )
    return {int(group): unit_NE[groups_N == group].mean(axis=0) for group in np.unique(groups_N)}


def group_similarity(
    training: dict[int, NDArray[np.float64]], benchmark: dict[int, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Mean cosine similarity [P, Q] of every training group with every benchmark group."""
    similarity_PQ: NDArray[np.float64] = (
        np.stack(list(training.values())) @ np.stack(list(benchmark.values())).T
    )
    return similarity_PQ


def pair_groups(
    training: dict[int, NDArray[np.float64]], benchmark: dict[int, NDArray[np.float64]]
) -> list[Pair]:
    """One-to-one matching of groups with the largest total similarity (Hungarian algorithm).

    From the mean embeddings by step (:func:`group_means`): min(P, Q) pairs, in order of the
    training group; the other groups have no pair. Empty where one side has no group.

    Examples
    --------
    >>> one, other = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    >>> [(pair.delay, pair.similarity) for pair in pair_groups({10: one, 20: other}, {50: one})]
    [(40, 1.0)]
    """
    if not training or not benchmark:
        return []
    similarity_PQ = group_similarity(training, benchmark)
    rows, columns = linear_sum_assignment(similarity_PQ, maximize=True)
    p_steps, q_steps = list(training), list(benchmark)
    return [
        Pair(
            memorization_step=p_steps[row],
            generalization_step=q_steps[column],
            similarity=float(similarity_PQ[row, column]),
            delay=q_steps[column] - p_steps[row],
        )
        for row, column in zip(rows, columns, strict=True)
    ]
