"""How many different routes samples take through windows of neighbouring layers.

Shapes: N samples, L MoE layers, K experts, W layers of a window.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_routing_weights
from metrics.measure import Measure

WINDOWS = (1, 2, 3)


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

    Raises
    ------
    ValueError
        If there are fewer than two samples, or the window does not fit.

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


MEASURES = tuple(
    Measure(
        f"path_entropy_{window}",
        f"entropy of routes over {window} layer{'s' if window > 1 else ''}",
        "share of the largest",
        0.0,
        1.0,
        0,
        "field",
        "standard (entropy of expert sequences), window and normalisation ours",
        f"entropy of the top-1 experts on windows of {window} neighbouring layers over samples, "
        "divided by log min(N, K^window)",
        monitored=window == 2,
    )
    for window in WINDOWS
)
