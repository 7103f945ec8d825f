"""How evenly experts are used: load, gate mass, and the numbers that sum them up.

Shapes: T tokens, L MoE layers, K experts, A experts chosen per token.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights
from metrics.measure import Measure


def chosen_experts(routing_weights_TLK: ArrayLike, top_k: int) -> NDArray[np.intp]:
    """Ids of the `top_k` experts of largest weight, largest first; ties go to the lower id.

    Parameters
    ----------
    routing_weights_TLK : array of shape (T, L, K)
        Routing weights of single tokens; rows sum to 1.
    top_k : int
        Experts per token, 1 to K.

    Returns
    -------
    array of shape (T, L, A)

    Raises
    ------
    ValueError
        If the weights are no routing weights, or `top_k` is not in 1..K.

    Examples
    --------
    >>> chosen_experts([[[0.2, 0.5, 0.3]]], top_k=2).tolist()
    [[[1, 2]]]
    """
    weights_TLK = check_routing_weights(routing_weights_TLK)
    num_experts = weights_TLK.shape[-1]
    if not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k is {top_k}, expected 1 to {num_experts}, the number of experts")
    return np.argsort(-weights_TLK, axis=-1, kind="stable")[..., :top_k]


def load_shares(chosen_TLA: NDArray[np.intp], num_experts: int) -> NDArray[np.float64]:
    """Share [L, K] of each layer's slots that each expert takes; rows sum to 1.

    Examples
    --------
    >>> load_shares(np.array([[[0]], [[1]], [[0]], [[0]]]), num_experts=2).tolist()
    [[0.75, 0.25]]
    """
    num_tokens, num_layers, num_chosen = chosen_TLA.shape
    flat = chosen_TLA + num_experts * np.arange(num_layers)[None, :, None]
    counts = np.bincount(flat.ravel(), minlength=num_layers * num_experts)
    shares: NDArray[np.float64] = counts.reshape(num_layers, num_experts) / (
        num_tokens * num_chosen
    )
    return shares


@dataclass(frozen=True)
class Imbalance:
    """How uneven a distribution over K experts is; a value per layer [L].

    Attributes
    ----------
    variation_L
        Coefficient of variation, 0 (even) to sqrt(K - 1).
    max_violation_L
        MaxVio = (largest - mean) / mean, 0 to K - 1 (arXiv 2408.15664).
    effective_experts_L
        exp(entropy), 1 to K (even).
    """

    variation_L: NDArray[np.float64]
    max_violation_L: NDArray[np.float64]
    effective_experts_L: NDArray[np.float64]


def imbalance(shares_LK: ArrayLike) -> Imbalance:
    """Three measures of how unevenly a layer's load, or gate mass, is spread over experts.

    Raises
    ------
    ValueError
        If a row is not a distribution.

    Examples
    --------
    >>> even = imbalance([[0.25] * 4])
    >>> even.variation_L.tolist(), even.max_violation_L.tolist(), even.effective_experts_L.round(9)
    ([0.0], [0.0], array([4.]))
    """
    checked_LK = check_routing_weights(np.asarray(shares_LK, dtype=np.float64)[None])[0]
    mean = 1 / checked_LK.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs_LK = np.where(checked_LK > 0, np.log(checked_LK), 0.0)
    return Imbalance(
        variation_L=checked_LK.std(axis=-1) / mean,
        max_violation_L=checked_LK.max(axis=-1) / mean - 1,
        effective_experts_L=np.exp(-(checked_LK * logs_LK).sum(axis=-1)),
    )


def congestion_coefficient(
    routing_weights_TLK: ArrayLike, load_LK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Congestion coefficient of each layer [L], after arXiv 2604.04230; NaN where it has no fit.

    Notes
    -----
    That paper reads routing as a congestion game: an expert's share of the load f_k follows
    exp(q_k - gamma f_k) with q_k its quality, so that a large gamma means that load, not quality,
    decides. Here q_k is the mean logarithm of the expert's routing weight over tokens, and gamma
    the negative slope of log f_k - q_k on f_k (least squares over experts with any load). The
    paper compares several estimators of quality, none of which is repeated here. So this is our
    variant, and the values that the paper publishes for OLMoE-1B-7B are not comparable with it.
    """
    weights_TLK = check_routing_weights(routing_weights_TLK)
    quality_LK = np.log(np.maximum(weights_TLK, 1e-12)).mean(axis=0)
    found_L = np.full(len(load_LK), np.nan)
    for layer, (load_K, quality_K) in enumerate(zip(load_LK, quality_LK, strict=True)):
        used = load_K > 0
        spread = load_K[used] - load_K[used].mean()
        if used.sum() < 3 or not np.any(np.abs(spread) > 1e-12):
            continue
        left = np.log(load_K[used]) - quality_K[used]
        found_L[layer] = -float(spread @ left) / float(spread @ spread)
    return found_L


MEASURES = (
    Measure(
        "load_variation",
        "unevenness of expert load",
        "coefficient of variation",
        0.0,
        None,
        0,
        "field",
        "standard; e.g. arXiv 2101.03961",
        "standard deviation over experts of the share of top-k slots, over its mean; mean of "
        "layers",
    ),
    Measure(
        "load_max_violation",
        "largest overload of an expert (MaxVio)",
        "share of mean load",
        0.0,
        None,
        0,
        "field",
        "arXiv 2408.15664",
        "(largest load - mean load) / mean load; mean of layers; over the sampled tokens",
    ),
    Measure(
        "effective_experts",
        "effective number of experts, by load",
        "experts",
        1.0,
        None,
        0,
        "field",
        "standard (exponential of Shannon entropy)",
        "exp of the entropy of the experts' shares of top-k slots; mean of layers",
    ),
    Measure(
        "gate_effective_experts",
        "effective number of experts, by gate mass",
        "experts",
        1.0,
        None,
        0,
        "field",
        "standard (exponential of Shannon entropy)",
        "exp of the entropy of the experts' mean routing weight; mean of layers",
    ),
    Measure(
        "gate_max_violation",
        "largest surplus of gate mass",
        "share of mean mass",
        0.0,
        None,
        0,
        "field",
        "after arXiv 2408.15664, on routing weights in place of slots",
        "(largest mean routing weight - 1/K) K; mean of layers",
    ),
    Measure(
        "congestion_coefficient",
        "congestion coefficient",
        "1 / load share",
        None,
        None,
        0,
        "field",
        "after arXiv 2604.04230 (gamma_eff), our estimator of quality",
        "negative slope over experts of log load - mean log routing weight on load; mean of layers",
    ),
)
