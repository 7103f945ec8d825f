"""Shared input checks of the metrics: one wording per mistake, so that bodies stay short.

Shape legend: N samples, L MoE layers, K experts, D hidden size, T checkpoints.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SUM_TOLERANCE = 1e-3
"""Largest accepted distance of a row of routing weights from 1 (half precision stays inside)."""


def check_routing_weights(routing_weights_NLK: ArrayLike) -> NDArray[np.float64]:
    """Return the routing weights as float64 after checking that they are routing weights.

    Routing weights [N, L, K] are the softmax over all K router logits, averaged over the sample's
    tokens (arXiv 2506.21551, sec. 4.1). Raises ValueError, naming the first sample and layer, if
    the array is not floating, not three-dimensional, empty, not finite, negative somewhere, or if a
    row's sum is further than ``SUM_TOLERANCE`` from 1.

    Examples
    --------
    >>> check_routing_weights([[[0.75, 0.25]]]).shape
    (1, 1, 2)
    """
    weights_NLK = np.asarray(routing_weights_NLK)
    if not np.issubdtype(weights_NLK.dtype, np.floating):
        raise ValueError(
            f"routing weights must be floating point, found dtype {weights_NLK.dtype}; "
            "pass softmax probabilities, not expert ids or counts"
        )
    if weights_NLK.ndim != 3 or 0 in weights_NLK.shape:
        raise ValueError(
            "routing weights must have shape [samples, layers, experts] with at least one of "
            f"each, found shape {weights_NLK.shape}; for one sample add a leading axis"
        )
    weights_NLK = weights_NLK.astype(np.float64, copy=False)
    _check_rows(weights_NLK)
    return weights_NLK


def _check_rows(weights_NLK: NDArray[np.float64]) -> None:
    """Raise unless every row is a distribution over the experts."""
    if not np.isfinite(weights_NLK).all():
        sample, layer, expert = _first(~np.isfinite(weights_NLK))
        raise ValueError(
            f"routing weights must be finite, found {weights_NLK[sample, layer, expert]} at "
            f"sample {sample}, layer {layer}, expert {expert}; "
            "samples without a single counted token have no routing: leave them out"
        )
    if (weights_NLK < 0).any():
        sample, layer, expert = _first(weights_NLK < 0)
        raise ValueError(
            f"routing weights must not be negative, found {weights_NLK[sample, layer, expert]:.6g} "
            f"at sample {sample}, layer {layer}, expert {expert}; "
            "these look like router logits: apply the softmax over all experts first"
        )
    sums_NL = weights_NLK.sum(axis=-1)
    off_NL = np.abs(sums_NL - 1.0) > SUM_TOLERANCE
    if off_NL.any():
        sample, layer = _first(off_NL)
        raise ValueError(
            f"routing weights must sum to 1 over the experts (within {SUM_TOLERANCE:g}), found "
            f"{sums_NL[sample, layer]:.6g} at sample {sample}, layer {layer}; "
            "pass the softmax over all experts before the top-k choice, averaged over tokens"
        )


def check_router_weights(
    router_weights_LKD: ArrayLike, num_layers: int, num_experts: int
) -> NDArray[np.float64]:
    """Return the router weight matrices as float64 after checking them against the routing.

    Raises ValueError if the shape is not [num_layers, num_experts, D] or a value is not finite.
    """
    weights_LKD = np.asarray(router_weights_LKD, dtype=np.float64)
    if weights_LKD.ndim != 3 or weights_LKD.shape[:2] != (num_layers, num_experts):
        raise ValueError(
            f"router weights must have shape [{num_layers} layers, {num_experts} experts, hidden "
            f"size] to fit the routing weights, found {weights_LKD.shape}; "
            "stack the weight of each MoE layer's router, in layer order"
        )
    if not np.isfinite(weights_LKD).all():
        layer, expert, column = _first(~np.isfinite(weights_LKD))
        raise ValueError(
            f"router weights must be finite, found {weights_LKD[layer, expert, column]} at layer "
            f"{layer}, expert {expert}, column {column}; the checkpoint looks damaged"
        )
    return weights_LKD


def check_steps(
    steps_T: ArrayLike, num_checkpoints: int, *, min_checkpoints: int = 2
) -> NDArray[np.int64]:
    """Return the optimizer steps of the checkpoints as int64 after checking them.

    Raises ValueError unless there is one step per checkpoint, at least `min_checkpoints` of them,
    and the steps are integers that are at least 0 and strictly increasing.
    """
    steps_T = np.asarray(steps_T)
    if steps_T.shape != (num_checkpoints,):
        raise ValueError(
            f"expected one step per checkpoint, that is shape ({num_checkpoints},), "
            f"found shape {steps_T.shape}"
        )
    if num_checkpoints < min_checkpoints:
        raise ValueError(
            f"at least {min_checkpoints} checkpoints are needed, found {num_checkpoints}; "
            "add checkpoints to the series"
        )
    if not np.issubdtype(steps_T.dtype, np.integer):
        raise ValueError(f"steps must be integers, found dtype {steps_T.dtype}")
    if (steps_T < 0).any() or (np.diff(steps_T.astype(np.int64)) <= 0).any():
        raise ValueError(
            f"steps must be at least 0 and strictly increasing, found {steps_T.tolist()}; "
            "sort the checkpoints by step and drop repeated ones"
        )
    return steps_T.astype(np.int64)


def check_losses(losses_NT: ArrayLike) -> NDArray[np.float64]:
    """Return per-sample losses [N, T] (nats per token) as float64 after checking them.

    Raises ValueError if the array is not two-dimensional, has no sample, or a value is not finite.
    """
    losses_NT = np.asarray(losses_NT, dtype=np.float64)
    if losses_NT.ndim != 2 or losses_NT.shape[0] == 0:
        raise ValueError(
            "losses must have shape [samples, checkpoints] with at least one sample, "
            f"found shape {losses_NT.shape}"
        )
    if not np.isfinite(losses_NT).all():
        sample, checkpoint = _first(~np.isfinite(losses_NT))
        raise ValueError(
            f"losses must be finite, found {losses_NT[sample, checkpoint]} at sample {sample}, "
            f"checkpoint {checkpoint}; leave out samples without a counted token"
        )
    return losses_NT


def _first(mask: NDArray[Any]) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(axis) for axis in np.unravel_index(int(mask.argmax()), mask.shape))
