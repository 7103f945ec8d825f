"""Pathway consistency: how smoothly one sample's routing moves from layer to layer (sec. 4.2).

arXiv 2506.21551, sec. 4.2 prints a quantity that falls as pathways become smoother and calls it
consistency, while its Table 1 correlates the opposite orientation. Here the printed quantity is
`roughness` (lower = smoother) and 1 - roughness is `consistency` (higher = smoother).

Shape legend: N samples, L MoE layers, K experts, D hidden size, R = min(D, 2 K).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.checks import check_router_weights, check_routing_weights

RATIO_GUARD = 1e-8
"""The constant that the paper adds to the largest cosine before dividing by it."""

ILL_CONDITIONED_COSINE = 0.05
"""Where the largest cosine is no larger than this, the ratio means nothing."""

MAX_ILL_CONDITIONED_SHARE = 0.1
"""With a larger share of ill-conditioned samples, mean and median of the ratio are not reported."""

ZERO_NORM = 1e-12
"""Embeddings shorter than this share of their router's norm are rounding, and count as zero."""


@dataclass(frozen=True)
class ConsistencyScores:
    """Roughness and consistency of each sample's pathway, and the cosines in them."""

    roughness_N: NDArray[np.float64]
    """The paper's printed C_i; at least 0 where well conditioned, lower = smoother."""
    consistency_N: NDArray[np.float64]
    """1 - roughness; at most 1 where well conditioned, higher = smoother."""
    mean_cosine_N: NDArray[np.float64]
    """Plain mean over the consecutive layers, in [-1, 1], higher = smoother; always sound."""
    max_cosine_N: NDArray[np.float64]
    """Largest cosine, the denominator of the ratio, in [-1, 1]."""
    ill_conditioned_N: NDArray[np.bool_]
    """Whether the largest cosine is at most `ILL_CONDITIONED_COSINE`."""


@dataclass(frozen=True)
class ConsistencySummary:
    """One group's consistency: read the median where samples are ill-conditioned."""

    mean_roughness: float
    median_roughness: float
    mean_consistency: float
    median_consistency: float
    mean_cosine: float
    num_samples: int
    num_ill_conditioned: int


def pathway_consistency(
    routing_weights_NLK: NDArray[np.floating],
    router_weights_LKD: NDArray[np.floating],
    *,
    centred: bool = False,
) -> ConsistencyScores:
    """Score how smoothly each sample's routing embedding moves through the layers.

    Parameters
    ----------
    routing_weights_NLK : array [N, L, K], floating
        Rows sum to 1; L at least 2.
    router_weights_LKD : array [L, K, D], floating
        The router's weight matrix of each layer.
    centred : bool
        Subtract each layer's mean row from its router weights first.

    Returns
    -------
    ConsistencyScores
        Arrays [N]; the fields give range and direction.

    Raises
    ------
    ValueError
        If the routing or router weights are malformed, or if there are fewer than 2 layers.

    Notes
    -----
    With c_l the cosine of the routing embeddings e_l(i) = sum_k g_l(i, k) W_l[k] of layers l and
    l + 1 (arXiv 2506.21551, sec. 4.2): roughness = 1 - mean_l(c_l) / (max_l(c_l) + 1e-8).

    The ratio is unbounded and meaningless where the largest cosine is near zero or negative: such
    samples are marked, not repaired. With 2 layers the mean is the maximum and roughness is 0
    whatever the routing; 3 layers are the fewest that mean anything. Adding one vector to all
    rows of a router changes no routing, but it changes these cosines; the centred variant, ours,
    does not change.

    Examples
    --------
    >>> routing = np.array([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]])
    >>> routers = np.broadcast_to(np.eye(2), (3, 2, 2))
    >>> pathway_consistency(routing, routers).roughness_N.round(4).tolist()
    [0.1464]
    """
    cosines_NP = consecutive_cosines(routing_weights_NLK, router_weights_LKD, centred=centred)
    mean_cosine_N = cosines_NP.mean(axis=-1)
    max_cosine_N = cosines_NP.max(axis=-1)
    roughness_N = 1 - mean_cosine_N / (max_cosine_N + RATIO_GUARD)
    return ConsistencyScores(
        roughness_N=roughness_N,
        consistency_N=1 - roughness_N,
        mean_cosine_N=mean_cosine_N,
        max_cosine_N=max_cosine_N,
        ill_conditioned_N=max_cosine_N <= ILL_CONDITIONED_COSINE,
    )


def summarize_consistency(scores: ConsistencyScores) -> ConsistencySummary:
    """Mean and median over a group's samples, ill-conditioned ones included and counted."""
    return ConsistencySummary(
        mean_roughness=float(scores.roughness_N.mean()),
        median_roughness=float(np.median(scores.roughness_N)),
        mean_consistency=float(scores.consistency_N.mean()),
        median_consistency=float(np.median(scores.consistency_N)),
        mean_cosine=float(scores.mean_cosine_N.mean()),
        num_samples=len(scores.roughness_N),
        num_ill_conditioned=int(scores.ill_conditioned_N.sum()),
    )


def consecutive_cosines(
    routing_weights_NLK: NDArray[np.floating],
    router_weights_LKD: NDArray[np.floating],
    *,
    centred: bool = False,
) -> NDArray[np.float64]:
    """Cosine of the routing embeddings of each layer and the next.

    Array [N, L - 1], float64, in [-1, 1]; 0 where one of the two embeddings is the zero vector.
    Parameters and errors as of `pathway_consistency`.

    Notes
    -----
    The embeddings of two neighbouring layers lie in the span of their 2 K router rows. Written in
    an orthonormal basis of that span they have R = min(D, 2 K) coordinates instead of D, so the
    [N, L, D] embeddings are never built, and unlike with Gram matrices nothing is squared.

    Examples
    --------
    >>> routing = np.array([[[1.0, 0.0], [0.5, 0.5]]])
    >>> consecutive_cosines(routing, np.broadcast_to(np.eye(2), (2, 2, 2))).round(4).tolist()
    [[0.7071]]
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    num_samples, num_layers, num_experts = weights_NLK.shape
    routers_LKD = check_router_weights(router_weights_LKD, num_layers, num_experts)
    if num_layers < 2:
        raise ValueError(
            f"consistency compares consecutive layers and needs at least 2, found {num_layers}"
        )
    if centred:
        routers_LKD = _centre(routers_LKD)
    cosines = np.empty((num_samples, num_layers - 1))
    for layer in range(num_layers - 1):
        first_KR, second_KR = _shared_coordinates(routers_LKD[layer], routers_LKD[layer + 1])
        cosines[:, layer] = np.sum(
            _unit_rows(weights_NLK[:, layer], first_KR)
            * _unit_rows(weights_NLK[:, layer + 1], second_KR),
            axis=-1,
        )
    return np.clip(cosines, -1.0, 1.0)


def _centre(routers_LKD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract each layer's mean row."""
    return routers_LKD - routers_LKD.mean(axis=-2, keepdims=True)


def _shared_coordinates(
    first_KD: NDArray[np.float64], second_KD: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Write the rows of two matrices in one orthonormal basis of their common span."""
    basis_DR = np.linalg.qr(np.concatenate([first_KD, second_KD]).T).Q
    return first_KD @ basis_DR, second_KD @ basis_DR


def _unit_rows(
    weights_NK: NDArray[np.float64], rows_KR: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Embeddings scaled to length 1; those that are zero but for rounding become zero."""
    embeddings_NR = weights_NK @ rows_KR
    norms_N1 = np.linalg.norm(embeddings_NR, axis=-1, keepdims=True)
    is_zero_N1 = norms_N1 <= ZERO_NORM * np.linalg.norm(rows_KR)
    return np.where(is_zero_N1, 0.0, embeddings_NR / np.where(is_zero_N1, 1.0, norms_N1))
