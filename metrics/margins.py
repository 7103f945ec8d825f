"""How decided a router is about single tokens: entropy, chosen mass, boundary margin.

Shapes: T tokens, L MoE layers, K experts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights
from metrics.measure import Measure

PERCENTILES = (10, 50, 90)


@dataclass(frozen=True)
class Margins:
    """Percentiles (p10, p50, p90) of the boundary margin by layer, [3, L] each."""

    weight_PL: NDArray[np.float64]
    """Of s_k - s_(k+1) on routing weights, 0 to 1."""
    logit_PL: NDArray[np.float64]
    """Of the same on router logits (differences of logarithms), 0 upwards."""


def boundary_margins(routing_weights_TLK: ArrayLike, top_k: int) -> Margins | None:
    """Distance between the last chosen expert and the first that is not chosen.

    Parameters
    ----------
    routing_weights_TLK : array of shape (T, L, K)
        Routing weights of single tokens.
    top_k : int
        Experts chosen per token.

    Returns
    -------
    Margins or None
        None where all experts are chosen, so that there is no boundary.

    Raises
    ------
    ValueError
        If the weights are no routing weights, or `top_k` is not in 1..K.

    Notes
    -----
    The margin s_(k) - s_(k+1) of sorted scores at percentiles 10, 50 and 90, the form in which
    training tools report it (Megatron-LM's MoE routing analysis). A small margin means that a small
    change of the router changes the experts. Logits are recovered up to a constant per token as
    logarithms of the weights, so their differences are exact where no weight underflows.

    Examples
    --------
    >>> margins = boundary_margins([[[0.5, 0.3, 0.2]]], top_k=1)
    >>> margins.weight_PL.round(9).tolist()
    [[0.2], [0.2], [0.2]]
    """
    weights_TLK = check_routing_weights(routing_weights_TLK)
    num_experts = weights_TLK.shape[-1]
    if not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k is {top_k}, expected 1 to {num_experts}, the number of experts")
    if top_k == num_experts:
        return None
    ordered_TLK = -np.sort(-weights_TLK, axis=-1)
    last_TL, next_TL = ordered_TLK[..., top_k - 1], ordered_TLK[..., top_k]
    tiny = np.finfo(np.float32).tiny
    logits_TL = np.log(np.maximum(last_TL, tiny)) - np.log(np.maximum(next_TL, tiny))
    return Margins(
        weight_PL=np.percentile(last_TL - next_TL, PERCENTILES, axis=0),
        logit_PL=np.percentile(logits_TL, PERCENTILES, axis=0),
    )


def token_entropy(routing_weights_TLK: ArrayLike) -> NDArray[np.float64]:
    """Mean entropy of single tokens' routing weights by layer [L], nats, 0 to log K.

    Examples
    --------
    >>> token_entropy([[[0.5, 0.5]]]).round(4).tolist()
    [0.6931]
    """
    weights_TLK = check_routing_weights(routing_weights_TLK)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(weights_TLK > 0, weights_TLK * np.log(weights_TLK), 0.0)
    entropy_L: NDArray[np.float64] = -terms.sum(axis=-1).mean(axis=0)
    return entropy_L


def chosen_mass(routing_weights_TLK: ArrayLike, top_k: int) -> NDArray[np.float64]:
    """Mean share of a token's routing weight that its chosen experts hold, by layer [L].

    Examples
    --------
    >>> chosen_mass([[[0.5, 0.3, 0.2]]], top_k=2).round(9).tolist()
    [0.8]
    """
    weights_TLK = check_routing_weights(routing_weights_TLK)
    largest_TLA = -np.sort(-weights_TLK, axis=-1)[..., :top_k]
    mass_L: NDArray[np.float64] = largest_TLA.sum(axis=-1).mean(axis=0)
    return mass_L


def _margin(percentile: int, on: str) -> Measure:
    of = "routing weights" if on == "weight" else "router logits"
    return Measure(
        f"boundary_margin_{on}_p{percentile}",
        f"boundary margin on {of}, p{percentile}",
        "share" if on == "weight" else "logits",
        0.0,
        1.0 if on == "weight" else None,
        0,
        "field",
        "after Megatron-LM, tools for MoE routing analysis; a variant: percentiles are "
        "interpolated between tokens",
        f"percentile {percentile} over tokens of s_k - s_(k+1) on {of}; mean of layers",
        monitored=percentile == 50,
    )


MEASURES = (
    Measure(
        "token_entropy",
        "routing entropy of single tokens",
        "nats",
        0.0,
        None,
        0,
        "field",
        "standard; on tokens, where routing_entropy is on samples' mean weights",
        "entropy of each token's routing weights, mean over tokens and layers",
    ),
    Measure(
        "chosen_mass",
        "routing weight of the chosen experts",
        "share",
        0.0,
        1.0,
        0,
        "field",
        "standard",
        "sum of a token's top-k routing weights, mean over tokens and layers",
    ),
    *(_margin(percentile, on) for on in ("weight", "logit") for percentile in PERCENTILES),
)
