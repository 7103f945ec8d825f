"""Do experts belong to domains, and to tokens? (OLMoE, arXiv 2409.02060, sec. 5)

Shapes: T tokens, L MoE layers, A experts chosen per token, K experts.
"""

import numpy as np
from numpy.typing import NDArray

from metrics.load import load_shares
from metrics.measure import Measure

MIN_OCCURRENCES = 8
"""Token ids seen less often say nothing about where the id goes."""


def domain_specialisation(
    load_LK: NDArray[np.float64], other_load_LK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Total variation distance [L] of a domain's expert load from that of the other domains.

    Returns
    -------
    array of shape (L,)
        0 (used alike) to 1 (no expert in common).

    Notes
    -----
    arXiv 2409.02060 defines the specialisation of expert i on a domain as the share of the
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
        Ids seen less often are left out.

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


MEASURES = (
    Measure(
        "domain_specialisation",
        "specialisation of experts on the domain",
        "total variation",
        0.0,
        1.0,
        0,
        "field",
        "after arXiv 2409.02060, sec. 5 (domain specialisation); our summary over experts",
        "half the summed difference of expert loads, this domain against the others pooled; mean "
        "of layers",
    ),
    Measure(
        "vocabulary_specialisation",
        "specialisation of experts on tokens, top-1",
        "share",
        0.0,
        1.0,
        0,
        "field",
        "after arXiv 2409.02060, sec. 5 (vocabulary specialisation), input token, top-1; a "
        "variant: only frequent ids count",
        "share of a token id's occurrences that go to its favourite expert; mean of ids seen at "
        f"least {MIN_OCCURRENCES} times, and of layers",
    ),
    Measure(
        "vocabulary_specialisation_top_k",
        "specialisation of experts on tokens, top-k",
        "share",
        0.0,
        1.0,
        0,
        "field",
        "after arXiv 2409.02060, sec. 5 (vocabulary specialisation), input token, top-k; a "
        "variant: only frequent ids count",
        "the same with the favourite among a token's top-k experts",
        monitored=False,
    ),
)
