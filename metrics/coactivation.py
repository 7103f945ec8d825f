"""Which experts are chosen together (OLMoE, arXiv 2409.02060, sec. 5).

Shapes: T tokens, L MoE layers, A experts chosen per token, K experts.
"""

import numpy as np
from numpy.typing import NDArray

from metrics.measure import Measure


def coactivation(chosen_TLA: NDArray[np.intp], num_experts: int) -> NDArray[np.float64]:
    """Share [L, K, K] of the tokens of expert i that also choose expert j; diagonal 0.

    Parameters
    ----------
    chosen_TLA : array of shape (T, L, A)
        Chosen experts of single tokens (:func:`metrics.load.chosen_experts`).
    num_experts : int
        K.

    Returns
    -------
    array of shape (L, K, K)
        In [0, 1]; row i is NaN-free: 0 where expert i is never chosen. With k chosen experts a
        used row sums to k - 1.

    Examples
    --------
    >>> coactivation(np.array([[[0, 1]], [[0, 2]]]), num_experts=3)[0].tolist()
    [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    num_tokens, num_layers, _ = chosen_TLA.shape
    shares_LKK = np.zeros((num_layers, num_experts, num_experts))
    for layer in range(num_layers):
        used_TK = np.zeros((num_tokens, num_experts), dtype=np.float32)
        np.put_along_axis(used_TK, chosen_TLA[:, layer], 1.0, axis=1)
        together_KK = (used_TK.T @ used_TK).astype(np.float64)
        shares_LKK[layer] = _per_row(together_KK)
    return shares_LKK


def rank_adjacent_coactivation(
    chosen_TLA: NDArray[np.intp], num_experts: int
) -> NDArray[np.float64]:
    """The same, counting only pairs that are neighbours in a token's ranking (rank r and r + 1).

    Notes
    -----
    This is the variant that counts each token's ranked experts pairwise along the ranking, in both
    directions, over the tokens of expert i; with more than two chosen experts it misses the pairs
    further apart. With two it equals :func:`coactivation`.

    Examples
    --------
    >>> rank_adjacent_coactivation(np.array([[[0, 1, 2]]]), num_experts=3)[0].tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    _, num_layers, num_chosen = chosen_TLA.shape
    shares_LKK = np.zeros((num_layers, num_experts, num_experts))
    for layer in range(num_layers):
        chosen_TA = chosen_TLA[:, layer]
        together_KK = np.zeros((num_experts, num_experts))
        for rank in range(num_chosen - 1):
            np.add.at(together_KK, (chosen_TA[:, rank], chosen_TA[:, rank + 1]), 1)
        together_KK += together_KK.T
        np.fill_diagonal(together_KK, np.bincount(chosen_TA.ravel(), minlength=num_experts))
        shares_LKK[layer] = _per_row(together_KK)
    return shares_LKK


def strongest_partner(shares_LKK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over used experts of the share that goes to the strongest partner, by layer [L]."""
    used_LK = shares_LKK.sum(axis=-1) > 0
    strongest_LK = np.where(used_LK, shares_LKK.max(axis=-1), 0.0)
    mean_L: NDArray[np.float64] = strongest_LK.sum(axis=-1) / np.maximum(used_LK.sum(axis=-1), 1)
    return mean_L


def _per_row(together_KK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts divided by the tokens of the row's expert, which stand on the diagonal."""
    tokens_K = np.maximum(np.diag(together_KK), 1.0)
    shares_KK: NDArray[np.float64] = together_KK / tokens_K[:, None]
    np.fill_diagonal(shares_KK, 0.0)
    return shares_KK


MEASURES = (
    Measure(
        "coactivation_strongest",
        "co-activation with the strongest partner",
        "share of tokens",
        0.0,
        1.0,
        0,
        "field",
        "arXiv 2409.02060, sec. 5 (expert co-activation), all pairs",
        "share of expert i's tokens that also choose its most frequent partner; mean of experts "
        "and layers",
    ),
    Measure(
        "coactivation_strongest_rank_adjacent",
        "co-activation of neighbours in the ranking",
        "share of tokens",
        0.0,
        1.0,
        0,
        "field",
        "arXiv 2409.02060, its rank-adjacent form: only experts next to each other in the ranking",
        "the same over pairs of neighbouring ranks",
        monitored=False,
    ),
)
