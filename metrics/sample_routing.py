"""How differently samples are routed, measured on the weights: spread, routes, signatures.

Companions of the pathway distance that need no threshold: they separate what the distance mixes,
since pathways also grow shorter as the router sharpens.

Shapes: N samples, L MoE layers, K experts, W layers of a window, F features, C domains.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights

WINDOWS = (1, 2, 3)


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

    Raises ValueError if the array does not hold routing weights.

    Notes
    -----
    Ours: (1/L) sum_l sum_k Var_i g_l(i, k), with the variance over the N samples given (divided by
    N): half the mean squared Euclidean distance between two samples drawn with replacement.

    Examples
    --------
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

    Raises ValueError if the array does not hold routing weights, or only one sample's.

    Notes
    -----
    Ours: over layers and all pairs i < j the mean of 1/2 sum_k (sqrt g(i, k) - sqrt g(j, k))^2.
    The squared distance is chosen because its mean over all pairs is exact in one pass: it equals
    the variance of the square roots (divided by N - 1), with no pair ever formed.

    Examples
    --------
    >>> hellinger_spread(np.eye(2)[:, None, :])
    1.0
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    if len(weights_NLK) < 2:
        raise ValueError("one sample has no spread; give the routing weights of at least 2 samples")
    return float(np.sqrt(weights_NLK).var(axis=0, ddof=1).sum(axis=-1).mean())


def path_entropy(routing_weights_NLK: ArrayLike, window: int) -> float:
    """Entropy of the top-1 expert sequences on windows of layers, normalised, mean of windows.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights of at least two samples.
    window : int
        Neighbouring layers per window, 1 to L.

    Returns
    -------
    float
        0 (all samples take one route) to 1 (as spread as N samples over K^W routes can be).

    Raises ValueError if there are fewer than two samples, or the window does not fit.

    Notes
    -----
    Plug-in entropy of the observed sequences, in nats, divided by log min(N, K^W). The plug-in
    estimate is too low where routes are many and samples few, so compare equal N only.

    Examples
    --------
    >>> path_entropy(np.eye(4)[:, None, :], window=1)
    1.0
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    num_samples, num_layers, num_experts = weights_NLK.shape
    if num_samples < 2:
        raise ValueError(f"found {num_samples} sample, expected at least 2: one has no spread")
    if not 1 <= window <= num_layers:
        raise ValueError(f"window is {window}, expected 1 to {num_layers}, the number of layers")
    first_NL = weights_NLK.argmax(axis=-1)
    largest = math.log(min(num_samples, num_experts**window))
    entropies = [
        _entropy(first_NL[:, begin : begin + window]) for begin in range(num_layers - window + 1)
    ]
    return float(np.mean(entropies)) / largest if largest > 0 else 0.0  # one route is possible


def _entropy(routes_NW: NDArray[np.intp]) -> float:
    _, counts = np.unique(routes_NW, axis=0, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


@dataclass(frozen=True)
class SignatureSeparation:
    """How much more alike signatures are inside a domain than between domains."""

    within: float
    between: float
    """Mean cosine of pairs of samples of one domain, and of two domains, 0 to 1."""
    separation: float
    """within - between; 0 where domains do not matter."""
    null_mean: float
    """Mean of the separation with domain labels shuffled."""
    p: float
    """Share of shuffles (the true order among them) with at least this separation."""


def signature_separation(
    routing_weights_NLK: ArrayLike, domains_N: ArrayLike, *, num_shuffles: int, seed: int
) -> SignatureSeparation:
    """Cosine similarity of signatures within against between domains, with a permutation null.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights of samples of at least two domains.
    domains_N : array of shape (N,)
        Domain of each sample; each needs two samples.
    num_shuffles : int
        Shuffles of the labels, at least 1.
    seed : int
        Their seed.

    Raises ValueError if there is one domain only, or one with a single sample.

    Notes
    -----
    A signature is a sample's expert usage over all layers: here its routing weights, as they are
    means over tokens. arXiv 2603.11114 compares categories of prompts; here the categories are the
    domains. All pairs enter, without an N x N matrix: sums of cosines are inner products of sums
    of normalised signatures.

    Examples
    --------
    >>> weights = np.repeat(np.eye(2), 3, axis=0)[:, None, :]
    >>> found = signature_separation(weights, list("aaabbb"), num_shuffles=99, seed=0)
    >>> found.within, found.between
    (1.0, 0.0)
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    names, labels_N = np.unique(np.asarray(domains_N), return_inverse=True)
    counts = np.bincount(labels_N)
    if len(names) < 2 or counts.min() < 2:
        raise ValueError(
            f"found {len(names)} domains with {counts.min()} samples in the smallest; signatures "
            "need at least two domains of two samples"
        )
    flat_NF = weights_NLK.reshape(len(weights_NLK), -1)
    unit_NF = flat_NF / np.linalg.norm(flat_NF, axis=1, keepdims=True)
    within, between = _means(unit_NF, labels_N, counts)
    rng = np.random.default_rng(seed)
    shuffled = np.array(
        [
            np.subtract(*_means(unit_NF, rng.permutation(labels_N), counts))
            for _ in range(num_shuffles)
        ]
    )
    # Shuffles that only swap names give the same sums in another order: equal but for rounding.
    as_large = int((shuffled >= within - between - 1e-12).sum())
    return SignatureSeparation(
        within=within,
        between=between,
        separation=within - between,
        null_mean=float(shuffled.mean()),
        p=(as_large + 1) / (num_shuffles + 1),
    )


def _means(
    unit_NF: NDArray[np.float64], labels_N: NDArray[np.intp], counts: NDArray[np.intp]
) -> tuple[float, float]:
    one_hot_NC = np.eye(len(counts))[labels_N]
    sums_CF = one_hot_NC.T @ unit_NF
    inside = float((sums_CF**2).sum()) - len(unit_NF)
    pairs_inside = float((counts * (counts - 1)).sum())
    everything = float((sums_CF.sum(axis=0) ** 2).sum()) - len(unit_NF)
    pairs = float(len(unit_NF) * (len(unit_NF) - 1))
    return inside / pairs_inside, (everything - inside) / (pairs - pairs_inside)
