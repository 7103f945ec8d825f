"""Pathways that mean nothing, made from real ones: what a monitor says where there is no structure.

Shapes: N samples, L MoE layers, K experts.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights
from metrics.measure import Measure

NullKind = Literal["shuffled_samples", "relabelled_experts"]
NULL_KINDS: tuple[NullKind, ...] = ("shuffled_samples", "relabelled_experts")


def null_routing(routing_weights_NLK: ArrayLike, kind: NullKind, seed: int) -> NDArray[np.float64]:
    """Routing weights with the same sharpness and no meaning.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights.
    kind : str
        `shuffled_samples`: in each layer the samples' rows are dealt out anew, so that load and
        sharpness of every layer stay and what binds a sample's layers goes (the load-preserving
        null). `relabelled_experts`: in each layer every sample's experts are renamed at random, so
        that only sharpness stays: no two samples share a route but by chance.
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
    if kind == "relabelled_experts":
        return rng.permuted(weights_NLK, axis=-1)
    raise ValueError(f"null kind is {kind!r}, expected one of {', '.join(NULL_KINDS)}")


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
        "mean pathway distance (per expert) over the same with each layer's samples shuffled: "
        "below 1 where layers agree on which samples are alike; free of load and sharpness",
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
