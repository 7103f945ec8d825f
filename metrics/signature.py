"""Routing signatures: do samples of one domain use experts alike? (arXiv 2603.11114)

A signature is a sample's expert usage over all layers: here its routing weights, as they are means
over tokens. The paper compares categories of prompts; here the categories are the domains.

Shapes: N samples, L MoE layers, K experts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights
from metrics.measure import Measure


@dataclass(frozen=True)
class SignatureSeparation:
    """How much more alike signatures are inside a domain than between domains.

    Attributes
    ----------
    within, between
        Mean cosine of pairs of samples of one domain, and of two domains, 0 to 1.
    separation
        within - between; 0 where domains do not matter.
    null_mean
        Mean of the separation with domain labels shuffled.
    p
        Share of shuffles (the true order among them) with at least this separation.
    """

    within: float
    between: float
    separation: float
    null_mean: float
    p: float


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

    Raises
    ------
    ValueError
        If there is one domain only, or one with a single sample.

    Notes
    -----
    All pairs enter, without an N x N matrix: sums of cosines are inner products of sums of
    normalised signatures.

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


MEASURES = (
    Measure(
        "signature_within",
        "likeness of routing signatures within domains",
        "cosine",
        0.0,
        1.0,
        0,
        "field",
        "arXiv 2603.11114 (routing signatures), categories are domains",
        "mean cosine of routing weights over pairs of samples of one domain; over all domains",
        monitored=False,
    ),
    Measure(
        "signature_separation",
        "separation of domains by routing signatures",
        "cosine",
        -1.0,
        1.0,
        0,
        "field",
        "arXiv 2603.11114 (routing signatures), categories are domains",
        "mean cosine within domains minus mean cosine between domains; null: labels shuffled",
        monitored=False,
    ),
    Measure(
        "signature_separation_same_load",
        "separation of domains under a load-preserving null",
        "cosine",
        -1.0,
        1.0,
        0,
        "field",
        "arXiv 2603.11114 (its load-preserving baseline), our form",
        "signature_separation where each sample draws the expert at each rank anew, as often as "
        "all domains together have it there: load stays, domains go",
        monitored=False,
    ),
)
