"""Pathways that mean nothing, made from real ones: what a monitor says where there is no structure.

Shapes: N samples, L MoE layers, K experts.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights
from metrics.measure import Measure

NullKind = Literal["shuffled_samples", "load_preserving", "relabelled_experts"]
DISTANCE_NULLS: tuple[NullKind, ...] = ("load_preserving", "relabelled_experts")
"""Nulls that a mean over pairs of samples can tell from the real routing."""


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
        `load_preserving`: in each layer every sample keeps its weights by rank, and so its
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
        seen = np.bincount((ranked_NLK[..., rank] + at_layer).ravel(), minlength=taken_NLK[0].size)
        logs_LK = np.log(np.maximum(seen.reshape(num_layers, num_experts), 1e-300))
        # The largest of log share + Gumbel noise is a draw in proportion to the shares.
        noisy_NLK = np.where(taken_NLK, -np.inf, logs_LK + rng.gumbel(size=weights_NLK.shape))
        drawn_NL1 = noisy_NLK.argmax(axis=-1)[..., np.newaxis]
        np.put_along_axis(taken_NLK, drawn_NL1, True, axis=-1)
        np.put_along_axis(null_NLK, drawn_NL1, sorted_NLK[..., [rank]], axis=-1)
    return null_NLK


MEASURES = (
    Measure(
        "distance_over_null",
        "pathway distance over its load-preserving null",
        "ratio",
        0.0,
        None,
        -1,
        "candidate",
        "ours, after arXiv 2506.21551, sec. 4.1",
        "mean pathway distance (per expert) over the same with the expert at each rank drawn anew "
        "for each sample, as often as the layer has it there: below 1 where samples share experts "
        "beyond what load makes them share; pathway lengths stay",
    ),
    Measure(
        "distance_over_chance",
        "pathway distance over that of relabelled experts",
        "ratio",
        0.0,
        None,
        -1,
        "candidate",
        "ours, after arXiv 2506.21551, sec. 4.1",
        "mean pathway distance (per expert) over the same with every sample's experts renamed at "
        "random: below 1 where samples share experts; free of pathway length",
    ),
)
