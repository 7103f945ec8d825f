"""Does pathway distance merely repeat routing entropy? (arXiv 2506.21551, App. E.5)

Shapes: N samples, L MoE layers, K experts, P pairs of samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from metrics.distances import pair_distances
from metrics.pathways import pathways_in_unit, routing_entropy
from metrics.resampling import pearson

NUM_SHUFFLES = 199


@dataclass(frozen=True)
class EntropyControl:
    """Correlation over pairs between mean routing entropy and pathway distance.

    Attributes
    ----------
    pearson, spearman
        -1 to 1; None where all distances or entropies are equal. The square of Pearson is the share
        of the distances' variance that goes with entropy.
    p
        Share of shuffles of the entropies over samples with at least this |Pearson|.
    num_pairs
        Pairs of samples; they share samples, so they are no independent points.
    note
        Why there is no number, or None.
    """

    pearson: float | None
    spearman: float | None
    p: float | None
    num_pairs: int
    note: str | None = None


def entropy_control(
    routing_weights_NLK: NDArray[np.floating], threshold: float, *, max_pairs: int, seed: int
) -> EntropyControl:
    """Correlate the mean routing entropy of two samples with the distance of their pathways.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights of at least two samples.
    threshold : float
        Pathway threshold tau; the paper's control uses 0.8.
    max_pairs : int
        Pairs drawn where there are more.
    seed : int
        Seed of the pairs and of the shuffles.

    Notes
    -----
    Entropy of the full weight vector per layer, averaged over layers; pair entropy is the mean of
    the two. The paper reports r = 0.24 over 141,530 pairs. Pairs that share a sample depend on
    each other, so the p-value shuffles samples, not pairs (Mantel 1967).
    """
    entropy_N = routing_entropy(routing_weights_NLK).mean(axis=-1)
    pathways = pathways_in_unit(routing_weights_NLK, threshold, "character")
    pairs = pair_distances(pathways, max_pairs=max_pairs, seed=seed)
    first_P, second_P, distances_P = pairs.first_P, pairs.second_P, pairs.distances_P
    num_pairs = len(distances_P)
    entropies_P = (entropy_N[first_P] + entropy_N[second_P]) / 2
    for name, values_P in (("distances", distances_P), ("entropies", entropies_P)):
        if np.ptp(values_P) <= 1e-12 * max(1.0, float(np.abs(values_P).max())):
            note = f"not available, because all {name} are equal"
            return EntropyControl(None, None, None, num_pairs, note)
    found = pearson(entropies_P, distances_P)
    rng = np.random.default_rng(seed)
    as_large = 0
    for _ in range(NUM_SHUFFLES):
        shuffled_N = rng.permutation(entropy_N)
        other = pearson((shuffled_N[first_P] + shuffled_N[second_P]) / 2, distances_P)
        as_large += abs(other) >= abs(found)
    return EntropyControl(
        pearson=found,
        spearman=pearson(rankdata(entropies_P), rankdata(distances_P)),
        p=(as_large + 1) / (NUM_SHUFFLES + 1),
        num_pairs=num_pairs,
    )
