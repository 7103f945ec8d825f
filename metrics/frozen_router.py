"""What frozen random routers show: effective dimension against path distance (App. C.4).

Source: arXiv 2506.21551, App. C.4 and Fig. 8. Shapes: R routers, S samples, K experts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from metrics.bound import effective_dimension, gating_features, kernel_features
from metrics.distances import mean_pairwise_distance
from metrics.pathways import pathways_in_unit
from metrics.resampling import bootstrap_interval, pearson, permutation_test

PAIRS = (
    ("path_distance_normalized", "effective_dimension"),
    ("path_distance_normalized", "effective_dimension_normalized"),
    ("path_distance_normalized", "effective_dimension_gating"),
    ("path_distance_normalized", "validation_loss"),
    ("effective_dimension", "validation_loss"),
    ("effective_dimension_normalized", "validation_loss"),
)


def kernel_sizes(kernel_RSS: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean diagonal of each kernel.

    Examples
    --------
    >>> kernel_sizes(np.stack([np.eye(3), 2 * np.eye(3)])).tolist()
    [1.0, 2.0]
    """
    sizes_R: NDArray[np.float64] = (
        np.trace(np.asarray(kernel_RSS, dtype=np.float64), axis1=1, axis2=2)
        / np.shape(kernel_RSS)[1]
    )
    return sizes_R


def router_rows(
    variant: str,
    scales_R: NDArray[np.float64],
    routing_weights_RSK: NDArray[np.floating],
    tangent_kernel_RSS: NDArray[np.floating],
    training_loss_R: NDArray[np.floating],
    validation_loss_R: NDArray[np.floating],
    *,
    kernel_scale: float,
    threshold: float,
    ridge: float,
) -> list[dict[str, Any]]:
    """Rows of the table `frozen_router`: one per router.

    Path distance is the mean edit distance of the samples' pathways through the one layer, one
    symbol per expert, each divided by the longer pathway: 0 to 1. The effective dimension is taken
    twice: `effective_dimension` divides every kernel by `kernel_scale`, so that kernels have their
    relative sizes; `effective_dimension_normalized` sets each kernel's own mean diagonal to 1. The
    paper does not state which it uses.
    """
    rows = []
    sizes_R = kernel_sizes(tangent_kernel_RSS)
    for router, weights_SK in enumerate(np.asarray(routing_weights_RSK, dtype=np.float64)):
        weights_S1K = weights_SK[:, np.newaxis]
        pathways = pathways_in_unit(weights_S1K, threshold, "expert")
        features = kernel_features(tangent_kernel_RSS[router])
        rows.append(
            {
                "variant": variant,
                "router": router,
                "router_scale": float(scales_R[router]),
                "effective_dimension": effective_dimension(features / kernel_scale**0.5, ridge),
                "effective_dimension_normalized": effective_dimension(
                    features / sizes_R[router] ** 0.5, ridge
                ),
                "effective_dimension_gating": effective_dimension(
                    gating_features(weights_S1K), ridge
                ),
                "path_distance_normalized": mean_pairwise_distance(pathways, normalize=True).mean,
                "training_loss": float(training_loss_R[router]),
                "validation_loss": float(validation_loss_R[router]),
            }
        )
    return rows


def correlation_rows(rows: list[dict[str, Any]], *, seed: int) -> list[dict[str, Any]]:
    """Rows of the table `frozen_router_correlations`: each variant, each of `PAIRS`.

    Routers are drawn independently, so here a plain permutation test is valid.
    """
    found = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        of_variant = [row for row in rows if row["variant"] == variant]
        for x, y in PAIRS:
            x_R, y_R = (np.array([row[name] for row in of_variant]) for name in (x, y))
            varies = np.ptp(x_R) > 1e-12 and np.ptp(y_R) > 1e-12
            interval = bootstrap_interval(x_R, y_R, seed=seed) if varies else None
            found.append(
                {
                    "variant": variant,
                    "x": x,
                    "y": y,
                    "num_routers": len(of_variant),
                    "pearson": pearson(x_R, y_R) if varies else None,
                    "pearson_low": interval[0] if interval else None,
                    "pearson_high": interval[1] if interval else None,
                    "spearman": pearson(rankdata(x_R), rankdata(y_R)) if varies else None,
                    "p": permutation_test(x_R, y_R, seed=seed).p_value if varies else None,
                }
            )
    return found
