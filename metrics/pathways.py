"""Pathways: which experts a sample mostly uses, layer after layer (arXiv 2506.21551, sec. 4.1).

A pathway is written in one of two units. `character` is the paper's string of all layers
('3,1,5-...-9,1', separators and digits count as symbols); `expert` is one symbol per expert. The
paper's printed scales only fit together when its numbers of complete pathways are read in
characters and its numbers per layer in experts, so both are offered.

Shape legend: N samples, L MoE layers, K experts.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from metrics.checks import check_routing_weights

DEFAULT_THRESHOLD = 0.7
"""Cumulative routing weight that a pathway must exceed in each layer (the paper's tau)."""

Unit = Literal["character", "expert"]
"""What counts as one edit: a character of the pathway string, or an expert."""


class SelectedExperts(NamedTuple):
    """The experts of each layer in rank order, and how many of them belong to the pathway."""

    order_NLK: NDArray[np.int32]
    """All expert ids by falling routing weight."""

    num_selected_NL: NDArray[np.int64]
    """Length of the leading part of `order_NLK` that is the pathway, from 1 to K."""


def select_experts(
    routing_weights_NLK: NDArray[np.floating], threshold: float = DEFAULT_THRESHOLD
) -> SelectedExperts:
    """Rank the experts of each layer and select the shortest prefix that exceeds the threshold.

    Parameters
    ----------
    routing_weights_NLK : array [N, L, K], floating
        Rows sum to 1.
    threshold : float
        The paper's tau, in [0, 1]. At 0 only the first expert stays, at 1 all do.

    Returns
    -------
    SelectedExperts
        `order_NLK` (int32 expert ids) and `num_selected_NL` (int64, 1 to K).

    Raises
    ------
    ValueError
        If the routing weights are malformed or the threshold is outside [0, 1].

    Notes
    -----
    arXiv 2506.21551, sec. 4.1. Ties go to the lower expert id. "Exceeds" is strict and compared
    in float64: a cumulative weight of exactly tau takes one more expert. Where a complete row does
    not exceed tau (rows may sum to a little less than 1), all experts are selected.

    Examples
    --------
    >>> selected = select_experts(np.array([[[0.1, 0.6, 0.3]]]), threshold=0.7)
    >>> selected.order_NLK[0, 0].tolist(), int(selected.num_selected_NL[0, 0])
    ([1, 2, 0], 2)
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    if not 0 <= threshold <= 1:
        raise ValueError(
            f"the pathway threshold must be at least 0 and at most 1, found {threshold}; "
            f"the paper uses {DEFAULT_THRESHOLD}"
        )
    order_NLK = np.argsort(-weights_NLK, axis=-1, kind="stable")
    cumulative_NLK = np.cumsum(np.take_along_axis(weights_NLK, order_NLK, axis=-1), axis=-1)
    num_below_NL = (cumulative_NLK <= threshold).sum(axis=-1)
    num_selected_NL = np.minimum(num_below_NL + 1, weights_NLK.shape[-1])
    if threshold == 1:  # rounding may lift a cumulative weight above 1
        num_selected_NL = np.full_like(num_selected_NL, weights_NLK.shape[-1])
    return SelectedExperts(order_NLK.astype(np.int32), num_selected_NL)


def pathway_strings(
    routing_weights_NLK: NDArray[np.floating], threshold: float = DEFAULT_THRESHOLD
) -> list[str]:
    """Write each sample's pathway the paper's way: ',' inside a layer, '-' between layers.

    For example '3,1,5-0-9,1' for three layers; raises ValueError as `select_experts`. arXiv
    2506.21551, sec. 4.1. This is the `character` unit: an expert with a two-digit id weighs more in
    an edit distance than one with a one-digit id.

    Examples
    --------
    >>> pathway_strings(np.array([[[0.1, 0.6, 0.3], [0.9, 0.0, 0.1]]]))
    ['1,2-0']
    """
    order_NLK, num_selected_NL = select_experts(routing_weights_NLK, threshold)
    names = [str(expert) for expert in range(order_NLK.shape[-1])]
    return [
        "-".join(
            ",".join([names[expert] for expert in ranked[:count].tolist()])
            for ranked, count in zip(order_LK, num_selected_L, strict=True)
        )
        for order_LK, num_selected_L in zip(order_NLK, num_selected_NL.tolist(), strict=True)
    ]


def pathway_symbols(
    routing_weights_NLK: NDArray[np.floating], threshold: float = DEFAULT_THRESHOLD
) -> list[NDArray[np.int32]]:
    """Write each sample's pathway with one symbol per selected expert.

    N arrays of int32, symbol `layer * K + expert`, layers one after the other, without separators;
    raises ValueError as `select_experts`. The `expert` unit. The layer is part of the symbol
    because expert 3 of one layer and expert 3 of the next are unrelated weights. Layers need no
    separator then, and an edit distance is at most the sum of the layers' own distances (it may be
    less: one substitution across a layer boundary can stand for a deletion and an insertion).

    Examples
    --------
    >>> [s.tolist() for s in pathway_symbols(np.array([[[0.1, 0.6, 0.3], [0.9, 0.0, 0.1]]]))]
    [[1, 2, 3]]
    """
    order_NLK, num_selected_NL = select_experts(routing_weights_NLK, threshold)
    _, num_layers, num_experts = order_NLK.shape
    layer_start_L1 = np.arange(num_layers, dtype=np.int32)[:, np.newaxis] * np.int32(num_experts)
    selected_NLK = np.arange(num_experts) < num_selected_NL[..., np.newaxis]
    flat = (order_NLK + layer_start_L1)[selected_NLK]
    return np.split(flat, np.cumsum(num_selected_NL.sum(axis=-1))[:-1])


def pathways_in_unit(
    routing_weights_NLK: NDArray[np.floating],
    threshold: float = DEFAULT_THRESHOLD,
    unit: Unit = "character",
) -> list[str] | list[NDArray[np.int32]]:
    """Pathways in a unit, for `metrics.distances`; raises ValueError if the unit is unknown."""
    if unit == "character":
        return pathway_strings(routing_weights_NLK, threshold)
    if unit == "expert":
        return pathway_symbols(routing_weights_NLK, threshold)
    raise ValueError(f"unknown pathway unit {unit!r}; expected 'character' or 'expert'")


def pathway_lengths(
    routing_weights_NLK: NDArray[np.floating], threshold: float = DEFAULT_THRESHOLD
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the selected experts: per sample over all layers, and per layer.

    Returns
    -------
    lengths_N : array [N], int64
        Experts in the pathway, from L to L * K.
    lengths_NL : array [N, L], int64
        Experts per layer, from 1 to K.

    Raises ValueError as `select_experts`. Not in the paper: a raw pathway distance falls when
    pathways get shorter, which sharper routing alone causes; the length is its control.

    Examples
    --------
    >>> lengths_N, _ = pathway_lengths(np.array([[[0.1, 0.6, 0.3], [0.9, 0.0, 0.1]]]))
    >>> lengths_N.tolist()
    [3]
    """
    lengths_NL = select_experts(routing_weights_NLK, threshold).num_selected_NL
    return lengths_NL.sum(axis=-1), lengths_NL


def routing_entropy(routing_weights_NLK: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of the full routing weight vector, per sample and layer.

    Returns
    -------
    array [N, L], float64
        Nats; 0 where one expert takes all, log K where all experts share alike.

    The control of arXiv 2506.21551, App. E.5, where the paper averages over layers (the last axis).
    Raises ValueError if the routing weights are malformed.

    Examples
    --------
    >>> routing_entropy(np.array([[[0.5, 0.5], [1.0, 0.0]]])).round(4).tolist()
    [[0.6931, 0.0]]
    """
    entropy_NL: NDArray[np.float64] = entr(check_routing_weights(routing_weights_NLK)).sum(axis=-1)
    return entropy_NL
