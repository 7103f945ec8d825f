"""How single tokens are routed: load, decidedness, co-activation, specialisation of experts.

Shapes: T tokens, L MoE layers, K experts, A experts chosen per token, P percentiles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights

PERCENTILES = (10, 50, 90)

MIN_OCCURRENCES = 8
"""Token ids that occur less often do not show where the id goes."""


def chosen_experts(routing_weights_TLK: ArrayLike, top_k: int) -> NDArray[np.intp]:
    """Ids of the `top_k` experts of largest weight, largest first; ties go to the lower id.

    `routing_weights_TLK` are those of single tokens, rows sum to 1; returns ids [T, L, A]. Raises
    ValueError if the weights are no routing weights, or `top_k` is not in 1..K.

    Examples
    --------
    >>> chosen_experts([[[0.2, 0.5, 0.3]]], top_k=2).tolist()
    [[[1, 2]]]
    """
    weights_TLK = check_routing_weights(routing_weights_TLK)
    _check_top_k(top_k, weights_TLK.shape[-1])
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
    """How uneven a distribution over K experts is; a value per layer [L]."""

    variation_L: NDArray[np.float64]
    """Coefficient of variation, 0 (even) to sqrt(K - 1)."""
    max_violation_L: NDArray[np.float64]
    """MaxVio = (largest - mean) / mean, 0 to K - 1 (arXiv 2408.15664)."""
    effective_experts_L: NDArray[np.float64]
    """exp(entropy), 1 to K (even)."""


def imbalance(shares_LK: ArrayLike) -> Imbalance:
    """Three measures of how unevenly a layer's load, or gate mass, is spread over experts.

    Raises ValueError if a row is not a distribution.

    Examples
    --------
    >>> even = imbalance([[0.25] * 4])
    >>> even.variation_L.tolist(), even.max_violation_L.tolist(), even.effective_experts_L.round(9)
    ([0.0], [0.0], array([4.]))
    """
    checked_LK = check_routing_weights(np.asarray(shares_LK, dtype=np.float64)[None])[0]
    mean = 1 / checked_LK.shape[-1]
    with np.errstate(divide="ignore"):
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
    the negative slope of log f_k - q_k on f_k (least squares over experts with any load). Its own
    estimators of quality are others, so the values that it publishes are not comparable.
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


def _check_top_k(top_k: int, num_experts: int) -> None:
    if not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k is {top_k}, expected 1 to {num_experts}, the number of experts")


@dataclass(frozen=True)
class Margins:
    """Percentiles (p10, p50, p90) of the boundary margin by layer, [3, L] each."""

    weight_PL: NDArray[np.float64]
    """Of s_k - s_(k+1) on routing weights, 0 to 1."""
    logit_PL: NDArray[np.float64]
    """Of the same on router logits (differences of logarithms), 0 upwards."""


def boundary_margins(routing_weights_TLK: ArrayLike, top_k: int) -> Margins | None:
    """Distance between the last chosen expert and the first that is not chosen.

    None where all experts are chosen, so that there is no boundary; raises ValueError as
    :func:`chosen_experts`.

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
    _check_top_k(top_k, weights_TLK.shape[-1])
    if top_k == weights_TLK.shape[-1]:
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


def coactivation(chosen_TLA: NDArray[np.intp], num_experts: int) -> NDArray[np.float64]:
    """Share [L, K, K] of the tokens of expert i that also choose expert j; diagonal 0.

    In [0, 1]; 0 where expert i is never chosen. With k chosen experts a used row sums to k - 1.
    OLMoE, arXiv 2409.02060, sec. 5.

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

    With two chosen experts it equals :func:`coactivation`; with more it misses the pairs further
    apart.

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


def domain_specialisation(
    load_LK: NDArray[np.float64], other_load_LK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Total variation distance [L] of a domain's expert load from that of the other domains.

    0 (used alike) to 1 (no expert in common).

    Notes
    -----
    arXiv 2409.02060, sec. 5, defines the specialisation of expert i on a domain as the share of the
    domain's tokens that choose it: `token_share` of the table `expert_use`, which sums to k over
    the K experts, k/K each where all are used alike. The load here is the share of the domain's
    top-k slots, 1/k of that, and sums to 1. The distance is our summary of it over experts.

    Examples
    --------
    >>> domain_specialisation(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])).tolist()
    [0.5]
    """
    distance_L: NDArray[np.float64] = np.abs(load_LK - other_load_LK).sum(axis=-1) / 2
    return distance_L


def vocabulary_specialisation(
    chosen_TLA: NDArray[np.intp],
    token_ids_T: NDArray[np.integer],
    num_experts: int,
    *,
    min_occurrences: int = MIN_OCCURRENCES,
) -> NDArray[np.float64] | None:
    """How much of a token id goes to its favourite expert, mean over frequent ids, by layer [L].

    Parameters
    ----------
    chosen_TLA : array of shape (T, L, A)
        Chosen experts; with A = 1 the top-1 form, else the top-k form.
    token_ids_T : array of shape (T,)
        The input token at each place (arXiv 2409.02060 also has the predicted one).
    num_experts : int
        K.
    min_occurrences : int
        Ids that occur less often are left out.

    Returns
    -------
    array of shape (L,) or None
        Each in [1/K, 1]; None where no id is frequent enough. The baseline is what the same ids
        give when their tokens are shuffled, not 1/K: the largest of noisy shares is above their
        mean.

    Examples
    --------
    >>> chosen = np.array([[[0]], [[0]], [[1]], [[1]]])
    >>> vocabulary_specialisation(chosen, np.array([5, 5, 9, 9]), 2, min_occurrences=2).tolist()
    [1.0]
    """
    ids, counts = np.unique(token_ids_T, return_counts=True)
    frequent = ids[counts >= min_occurrences]
    if not len(frequent):
        return None
    num_chosen = chosen_TLA.shape[-1]
    favourite = [
        (load_shares(chosen_TLA[token_ids_T == one], num_experts) * num_chosen).max(axis=-1)
        for one in frequent
    ]
    mean_L: NDArray[np.float64] = np.mean(favourite, axis=0)
    return mean_L
