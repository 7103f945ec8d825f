"""Which benchmark documents look as if they had been trained on: Min-K%++ (arXiv 2404.02936).

Shapes: M documents of a benchmark; token scores are ragged.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def min_k_score(token_scores: ArrayLike, lowest_share: float) -> float:
    """Mean of a document's lowest standardized token log-probabilities.

    Parameters
    ----------
    token_scores : array of shape (tokens,)
        (log p(token) - mean) / standard deviation of log p over the vocabulary, under the model's
        next-token distribution at that place (models.extraction).
    lowest_share : float
        k, in (0, 1]: share of tokens that enter, at least one.

    Returns
    -------
    float
        Higher means more likely trained on.

    Raises
    ------
    ValueError
        If there is no token, a score is not finite, or the share is outside (0, 1].

    Notes
    -----
    Min-K%++ of Zhang et al. (arXiv 2404.02936), eq. 3, used in arXiv 2506.21551, App. B.1.

    Examples
    --------
    >>> min_k_score([3.0, -1.0, 0.0, 2.0, -3.0], lowest_share=0.4)
    -2.0
    """
    scores = np.asarray(token_scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"found token scores of shape {scores.shape}, expected at least one token")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} token scores are not finite")
    if not 0 < lowest_share <= 1:
        raise ValueError(f"lowest_share is {lowest_share}, expected a share in (0, 1]")
    num = max(1, math.floor(lowest_share * len(scores)))
    return float(np.partition(scores, num - 1)[:num].mean())


def contaminated(scores_M: Sequence[float], removed_share: float) -> NDArray[np.bool_]:
    """Which documents to remove: the share with the highest scores, rounded to documents.

    `scores_M` are Min-K%++ scores of one benchmark's documents. At least one document always stays;
    equal scores are removed in the order of the documents. Raises ValueError if a score is not
    finite or the share is outside [0, 1).

    Examples
    --------
    >>> contaminated([0.1, 0.9, 0.5, 0.2], removed_share=0.25).tolist()
    [False, True, False, False]
    """
    scores = np.asarray(scores_M, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} scores are not finite")
    if not 0 <= removed_share < 1:
        raise ValueError(f"removed_share is {removed_share}, expected a share in [0, 1)")
    num = min(round(removed_share * len(scores)), len(scores) - 1) if len(scores) else 0
    removed = np.zeros(len(scores), dtype=bool)
    removed[np.argsort(-scores, kind="stable")[:num]] = True
    return removed
