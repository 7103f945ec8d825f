"""How differently samples are routed, measured on the weights themselves.

Companions of the pathway distance that need no threshold: they tell apart what the distance
mixes, since pathways also grow shorter as the router sharpens. Both are ours, not the paper's.

Shapes: N samples, L MoE layers, K experts.
"""

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import check_routing_weights


def routing_variance(routing_weights_NLK: ArrayLike) -> float:
    """Total variance of routing weights over samples, averaged over layers.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights; each layer's weights of a sample sum to 1.

    Returns
    -------
    float
        In [0, 1): 0 where all samples are routed alike, 1 - 1/K at most (each sample sent to one
        expert, the experts used equally often).

    Raises
    ------
    ValueError
        If the array does not hold routing weights.

    Notes
    -----
    (1/L) sum_l sum_k Var_i g_l(i, k), with the variance over the N samples given (divided by N):
    half the mean squared Euclidean distance between two samples drawn with replacement.

    Examples
    --------
    >>> import numpy as np
    >>> routing_variance(np.eye(2)[:, None, :])
    0.5
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    return float(weights_NLK.var(axis=0).sum(axis=-1).mean())


def hellinger_spread(routing_weights_NLK: ArrayLike) -> float:
    """Mean squared Hellinger distance between the routing of two samples.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights of at least two samples.

    Returns
    -------
    float
        In [0, 1]: 0 where all samples are routed alike, 1 where no two samples share an expert.

    Raises
    ------
    ValueError
        If the array does not hold routing weights, or only one sample's.

    Notes
    -----
    The mean over layers and over all pairs i < j of 1/2 sum_k (sqrt g(i, k) - sqrt g(j, k))^2.
    The squared distance is chosen because its mean over all pairs is exact in one pass: it equals
    the variance of the square roots (divided by N - 1), with no pair ever formed.

    Examples
    --------
    >>> import numpy as np
    >>> hellinger_spread(np.eye(2)[:, None, :])
    1.0
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    if len(weights_NLK) < 2:
        raise ValueError("one sample has no spread; give the routing weights of at least 2 samples")
    return float(np.sqrt(weights_NLK).var(axis=0, ddof=1).sum(axis=-1).mean())
