"""Pathway distance under every threshold, unit and normalisation, on the same drawn pairs.

Shapes: N samples, L MoE layers, K experts, P pairs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.distances import pair_distances
from metrics.pathways import Unit, pathways_in_unit

UNITS: tuple[Unit, ...] = ("character", "expert")


def variant_rows(
    domain: str,
    routing_weights_NLK: NDArray[np.floating],
    thresholds: Sequence[float],
    *,
    max_pairs: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `distance_variants`; two samples of pairs (seed, seed + 1) each.

    Distances are computed once per threshold, unit and sample; the normalised mean divides each by
    the longer pathway (arXiv 2506.21551, sec. 4.1 and the threshold ablation of its appendix).
    """
    rows = []
    for threshold in thresholds:
        for unit in UNITS:
            pathways = pathways_in_unit(routing_weights_NLK, threshold, unit)
            lengths_N = np.array([len(pathway) for pathway in pathways])
            for pair_seed in (seed, seed + 1):
                pairs = pair_distances(pathways, max_pairs=max_pairs, seed=pair_seed)
                longer_P = np.maximum(lengths_N[pairs.first_P], lengths_N[pairs.second_P])
                for normalized, values_P in (
                    (False, pairs.distances_P),
                    (True, pairs.distances_P / np.maximum(longer_P, 1)),
                ):
                    rows.append(
                        {
                            "domain": domain,
                            "threshold": threshold,
                            "unit": unit,
                            "normalized": normalized,
                            "pair_seed": pair_seed,
                            "value": float(values_P.mean()),
                            "num_pairs": len(values_P),
                        }
                    )
    return rows
