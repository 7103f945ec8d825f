"""The paper's controls of the pathway distance, as tidy rows (arXiv 2506.21551, App. E.4, E.5).

Shapes: N samples, L MoE layers, K experts.
"""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.distances import mean_cross_distance
from metrics.entropy_control import entropy_control
from metrics.pathways import pathways_in_unit

ENTROPY_THRESHOLD = 0.8
"""The paper's entropy control is at tau 0.8."""


def cross_domain_rows(
    samples: dict[str, NDArray[np.floating]], threshold: float, *, max_pairs: int, seed: int
) -> list[dict[str, Any]]:
    """Mean pathway distance over pairs of samples from two different domains (App. E.4).

    The paper expects no trend here, as such samples have nothing to share. Distances in characters,
    raw and length-normalised. One row per pair of domains and metric.
    """
    strings = {
        domain: pathways_in_unit(weights, threshold, "character")
        for domain, weights in samples.items()
    }
    rows = []
    for one, other in combinations(samples, 2):
        for metric, normalize in (
            ("pathway_distance", False),
            ("pathway_distance_normalized", True),
        ):
            mean = mean_cross_distance(
                strings[one], strings[other], normalize=normalize, max_pairs=max_pairs, seed=seed
            )
            rows.append(
                {
                    "domain": one,
                    "other_domain": other,
                    "metric": metric,
                    "value": mean.mean,
                    "low": None if mean.exact else mean.low,
                    "high": None if mean.exact else mean.high,
                    "num_pairs": mean.num_pairs,
                }
            )
    return rows


def entropy_row(
    domain: str, routing_weights_NLK: NDArray[np.floating], *, max_pairs: int, seed: int
) -> dict[str, Any]:
    """Row of the table `entropy_control` (App. E.5), at the paper's threshold."""
    found = entropy_control(routing_weights_NLK, ENTROPY_THRESHOLD, max_pairs=max_pairs, seed=seed)
    return {
        "domain": domain,
        "threshold": ENTROPY_THRESHOLD,
        "pearson": found.pearson,
        "spearman": found.spearman,
        "p": found.p,
        "num_pairs": found.num_pairs,
        "note": found.note,
    }
