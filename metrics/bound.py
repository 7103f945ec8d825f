"""The paper's generalization bound: effective dimension of the routing kernel, and its terms.

Source: arXiv 2506.21551, sec. 4.4 and App. C. The kernel here is the gating kernel, i.e. the
routing kernel with every expert's own kernel set to one, averaged over layers:
H(x, x') = (1 / L) sum_l sum_k g_l(x, k) g_l(x', k). It has the L*K scaled routing weights as
explicit features, so everything is computed from the smaller of the two Gram matrices, exactly.

Shapes: N samples, L MoE layers, K experts, F features (L*K for routing weights).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve

from metrics.checks import check_routing_weights


@dataclass(frozen=True)
class BoundTerms:
    """The three terms of the excess-risk bound, up to its unknown constants (C1 = C2 = 1)."""

    effective_dimension: float
    """Tr(H (H + ridge I)^-1), in [0, min(N, F)]."""
    bias: float | None
    """(ridge^2 / N) y^T (H + ridge I)^-2 y, summed over the columns of y, in squared target units;
    None without targets."""
    variance: float
    """noise_variance * effective_dimension / N."""
    noise: float
    """noise_variance * log(1 / confidence) / N."""
    total: float | None
    """Sum of the three; compare it between checkpoints of one probe set, do not read it as a risk.
    None without targets."""
    ridge: float
    noise_variance: float
    confidence: float


def gating_features(routing_weights_NLK: ArrayLike) -> NDArray[np.float64]:
    """Return features Phi [N, L*K] whose products Phi Phi^T are the gating kernel.

    The weights divided by sqrt(L), so that the kernel is a mean over layers; float64. Raises
    ValueError if the array does not hold routing weights.

    Examples
    --------
    >>> features = gating_features(np.full((3, 2, 4), 0.25))
    >>> features.shape, (features @ features.T)[0, 1].round(12)
    ((3, 8), np.float64(0.25))
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    num_samples, num_layers, _ = weights_NLK.shape
    return weights_NLK.reshape(num_samples, -1) / math.sqrt(num_layers)


def kernel_features(kernel_NN: ArrayLike) -> NDArray[np.float64]:
    """Return features [N, N] whose products are a given kernel, e.g. the tangent kernel.

    Raises ValueError if the kernel is not a finite symmetric matrix, or not positive semi-definite
    beyond rounding.

    Examples
    --------
    >>> features = kernel_features([[2.0, 1.0], [1.0, 2.0]])
    >>> (features @ features.T).round(12).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    kernel_NN = np.asarray(kernel_NN, dtype=np.float64)
    if kernel_NN.ndim != 2 or kernel_NN.shape[0] != kernel_NN.shape[1]:
        raise ValueError(f"the kernel has shape {kernel_NN.shape}, expected a square matrix")
    scale = float(np.abs(kernel_NN).max(initial=0.0))
    if not np.isfinite(scale) or np.abs(kernel_NN - kernel_NN.T).max() > 1e-5 * scale:
        raise ValueError("the kernel is not a finite symmetric matrix")
    values_N, vectors_NN = np.linalg.eigh((kernel_NN + kernel_NN.T) / 2)
    if values_N.min() < -1e-4 * max(values_N.max(), 1e-300):
        raise ValueError(
            f"the kernel has an eigenvalue of {values_N.min():.3g}, expected none below 0"
        )
    features_NN: NDArray[np.float64] = vectors_NN * np.sqrt(np.maximum(values_N, 0.0))
    return features_NN


def effective_dimension(features_NF: ArrayLike, ridge: float) -> float:
    """Effective dimension Tr(H (H + ridge I)^-1) of the kernel H = Phi Phi^T.

    Parameters
    ----------
    features_NF : array of shape (N, F)
        Features, e.g. from ``gating_features``.
    ridge : float
        Regularization, positive, in units of H: not divided by N.

    Returns
    -------
    float
        In [0, min(N, F)]; larger means that the samples use more independent routes.

    Raises ValueError if ``ridge`` is not positive and finite, or the features are no finite matrix.

    Notes
    -----
    sum_i s_i / (s_i + ridge) over the eigenvalues s of H. H and Phi^T Phi share their nonzero
    eigenvalues, so the smaller of the two suffices: exact, not an approximation.

    Examples
    --------
    >>> effective_dimension(np.eye(4), ridge=1.0)
    2.0
    """
    features_NF = _check_features(features_NF, ridge)
    return _effective_dimension(_smaller_gram(features_NF), ridge)


def bound_terms(
    features_NF: ArrayLike,
    targets_NC: ArrayLike | None,
    *,
    ridge: float,
    noise_variance: float,
    confidence: float = 0.05,
) -> BoundTerms:
    """Terms of the paper's bound on the excess risk, up to constants.

    Parameters
    ----------
    features_NF : array of shape (N, F)
        Features of the kernel.
    targets_NC : array of shape (N,) or (N, C), or None
        Targets y, such as centred one-hot answers. They must not change between checkpoints that
        are to be compared. None where there are none: bias and total are None then.
    ridge : float
        Regularization lambda, positive.
    noise_variance : float
        sigma^2, at least 0, in squared target units.
    confidence : float
        delta, in (0, 1): the probability with which the bound may fail.

    Returns
    -------
    BoundTerms
        The terms with C1 = C2 = 1; the paper leaves the constants open.

    Raises ValueError if a parameter is out of range or the shapes do not fit.

    Notes
    -----
    The bias is the mean squared residual of kernel ridge regression on the targets, as
    ridge (H + ridge I)^-1 y = y - Phi (Phi^T Phi + ridge I)^-1 Phi^T y (Woodbury). The paper's
    statement assumes the NTK regime and a fixed router (arXiv 2506.21551, App. C).

    Examples
    --------
    >>> terms = bound_terms(np.eye(2), [2.0, 0.0], ridge=1.0, noise_variance=1.0)
    >>> terms.effective_dimension, round(terms.bias, 12), terms.variance
    (1.0, 0.5, 0.5)
    """
    features_NF = _check_features(features_NF, ridge)
    num_samples = len(features_NF)
    if not (noise_variance >= 0 and math.isfinite(noise_variance)):
        raise ValueError(f"noise_variance is {noise_variance}; give a finite value of at least 0")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a probability in (0, 1), e.g. 0.05")
    gram = _smaller_gram(features_NF)
    dimension = _effective_dimension(gram, ridge)
    bias = None
    if targets_NC is not None:
        targets_NC = _check_targets(targets_NC, num_samples)
        residual_NC = _ridge_residual(features_NF, gram, targets_NC, ridge)
        bias = float(np.sum(residual_NC**2)) / num_samples
    variance = noise_variance * dimension / num_samples
    noise = noise_variance * math.log(1 / confidence) / num_samples
    return BoundTerms(
        effective_dimension=dimension,
        bias=bias,
        variance=variance,
        noise=noise,
        total=None if bias is None else bias + variance + noise,
        ridge=ridge,
        noise_variance=noise_variance,
        confidence=confidence,
    )


def one_hot_targets(labels_N: ArrayLike) -> NDArray[np.float64]:
    """Centred one-hot targets [N, C], one column per label that occurs.

    Examples
    --------
    >>> one_hot_targets([7, 3]).tolist()
    [[-0.5, 0.5], [0.5, -0.5]]
    """
    labels_N = np.asarray(labels_N)
    one_hot_NC = (labels_N[:, np.newaxis] == np.unique(labels_N)).astype(np.float64)
    centred_NC: NDArray[np.float64] = one_hot_NC - one_hot_NC.mean(axis=0)
    return centred_NC


def _check_targets(targets_NC: ArrayLike, num_samples: int) -> NDArray[np.float64]:
    targets_NC = np.asarray(targets_NC, dtype=np.float64)
    fits = targets_NC.ndim in (1, 2) and len(targets_NC) == num_samples
    if not fits or not np.isfinite(targets_NC).all():
        raise ValueError(
            f"targets have shape {targets_NC.shape}; expected {num_samples} finite values, one per "
            "sample of the features, or that many rows"
        )
    return targets_NC


def _check_features(features_NF: ArrayLike, ridge: float) -> NDArray[np.float64]:
    if not (ridge > 0 and math.isfinite(ridge)):
        raise ValueError(f"ridge is {ridge}; give a positive finite value, e.g. 0.1")
    features_NF = np.asarray(features_NF, dtype=np.float64)
    if features_NF.ndim != 2 or 0 in features_NF.shape or not np.isfinite(features_NF).all():
        raise ValueError(
            f"features have shape {features_NF.shape}; expected a finite matrix of samples times "
            "features, e.g. from gating_features"
        )
    return features_NF


def _smaller_gram(features_NF: NDArray[np.float64]) -> NDArray[np.float64]:
    num_samples, num_features = features_NF.shape
    if num_features < num_samples:
        return features_NF.T @ features_NF
    return features_NF @ features_NF.T


def _effective_dimension(gram: NDArray[np.float64], ridge: float) -> float:
    eigenvalues = np.linalg.eigvalsh(gram)
    # Zero eigenvalues come out as rounding errors, which a tiny ridge would count as dimensions.
    rounding = max(float(eigenvalues[-1]), 0.0) * len(gram) * np.finfo(np.float64).eps
    eigenvalues = np.where(eigenvalues > rounding, eigenvalues, 0.0)
    return float(np.sum(eigenvalues / (eigenvalues + ridge)))


def _ridge_residual(
    features_NF: NDArray[np.float64],
    gram: NDArray[np.float64],
    targets_NC: NDArray[np.float64],
    ridge: float,
) -> NDArray[np.float64]:
    """Return ridge * (H + ridge I)^-1 y, solved on the side that is smaller."""
    num_samples, num_features = features_NF.shape
    shifted = gram + ridge * np.eye(len(gram))
    if num_features < num_samples:
        weights_F = solve(shifted, features_NF.T @ targets_NC, assume_a="pos")
        return targets_NC - features_NF @ weights_F
    return ridge * solve(shifted, targets_NC, assume_a="pos")
