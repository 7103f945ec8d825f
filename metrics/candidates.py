"""Does routing follow what samples mean? Candidate monitors from training data alone.

All are ours. They relate the routing of training samples to their inputs and to their answers,
where each sample has one answer token; labels come from the training data, so a model that
memorizes shuffled answers is compared with shuffled answers.

Shapes: N samples, L MoE layers, K experts, P pairs, T tokens of a sample, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from metrics.bound import effective_dimension, gating_features
from metrics.checks import check_routing_weights
from metrics.controls import null_routing
from metrics.pairs import draw_pairs, num_pairs_of
from metrics.registry import measure_row
from metrics.resampling import pearson

NO_ANSWER = "not available, because samples have no single answer token"

NO_VARIANCE = "not available, because routing, inputs or answers do not vary enough"

NO_PLACES = "not available, because inputs differ in length, or are too few for their tokens"


def candidate_rows(
    domain: str,
    routing_weights_NLK: NDArray[np.floating],
    inputs: Sequence[Sequence[int]],
    answers_N: Sequence[int] | None,
    *,
    ridge: float,
    max_pairs: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of `routing_measures`, without baselines, for the candidates of one domain.

    Parameters
    ----------
    domain
        Name of the domain.
    routing_weights_NLK
        Routing weights of at least two samples.
    inputs
        Token ids of each sample without its answer.
    answers_N
        Answer token of each sample, or None.
    ridge, max_pairs, seed
        Ridge of the effective dimension; pairs drawn, and their seed.
    """
    weights = np.asarray(routing_weights_NLK, dtype=np.float64)
    alike = likeness(weights, inputs, answers_N, max_pairs=max_pairs, seed=seed)
    known = answers_N is not None
    no_answer = NO_VARIANCE if known else NO_ANSWER
    aligned = known and len(weights) >= 4
    values: dict[str, tuple[float | None, str]] = {
        "likeness_input": (alike.with_input, NO_VARIANCE),
        "likeness_answer": (alike.with_answer, no_answer),
        "likeness_answer_given_input": (alike.with_answer_given_input, no_answer),
        "kernel_alignment": (
            kernel_alignment(weights, np.asarray(answers_N)) if aligned else None,
            no_answer,
        ),
        "answer_variance_share": (
            answer_variance_share(weights, np.asarray(answers_N)) if known else None,
            no_answer,
        ),
        "linear_input_share": (linear_input_share(weights, inputs), NO_PLACES),
        "dimension_over_null": (dimension_over_null(weights, ridge=ridge, seed=seed), NO_VARIANCE),
    }
    return [
        measure_row(domain, measure, value, len(weights), note=why if value is None else None)
        for measure, (value, why) in values.items()
    ]


@dataclass(frozen=True)
class Likeness:
    """Rank correlations over pairs of samples, -1 to 1; None where a side does not vary."""

    with_input: float | None
    """Routing distance with the distance of the inputs."""
    with_answer: float | None
    """Routing distance with having different answers."""
    with_answer_given_input: float | None
    """The same with the rank of the input distance taken out of both."""


def likeness(
    routing_weights_NLK: ArrayLike,
    inputs: Sequence[Sequence[int]],
    answers_N: Sequence[int] | None,
    *,
    max_pairs: int,
    seed: int,
) -> Likeness:
    """Representational similarity of routing with inputs and with answers.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights of at least two samples.
    inputs : sequence of N token sequences
        Without the answer.
    answers_N : sequence of N answer tokens, or None
        None where samples have no single answer token.
    max_pairs, seed : int
        Pairs drawn where there are more.

    Notes
    -----
    Routing distance: squared Hellinger distance, mean over layers. Input distance: share of places
    with another token where all inputs are equally long, else 1 - Jaccard index of the token sets.
    Spearman correlations (Kriegeskorte et al. 2008, representational similarity analysis).
    """
    weights_NLK = check_routing_weights(routing_weights_NLK)
    num_samples = len(weights_NLK)
    _check_as_many("inputs", inputs, num_samples)
    if answers_N is not None:
        _check_as_many("answers", answers_N, num_samples)
    num_pairs = min(max_pairs, num_pairs_of(num_samples))
    first_P, second_P = draw_pairs(num_samples, num_pairs, seed)
    routing_P = rankdata(_hellinger(weights_NLK, first_P, second_P))
    input_P = rankdata(input_distances(inputs, first_P, second_P))
    with_input = _correlation(routing_P, input_P)
    if answers_N is None:
        return Likeness(with_input, None, None)
    labels_N = np.asarray(answers_N)
    answer_P = (labels_N[first_P] != labels_N[second_P]).astype(np.float64)
    with_answer = _correlation(routing_P, answer_P)
    partial = _correlation(_residual(routing_P, input_P), _residual(answer_P, input_P))
    return Likeness(with_input, with_answer, partial)


def input_distances(
    inputs: Sequence[Sequence[int]], first_P: NDArray[np.int64], second_P: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Distance of two inputs for each pair, 0 (same) to 1 (nothing in common).

    >>> input_distances([[1, 2], [1, 3]], np.array([0]), np.array([1])).tolist()
    [0.5]
    """
    if len({len(tokens) for tokens in inputs}) == 1:
        tokens_NT = np.asarray(inputs)
        different: NDArray[np.float64] = (tokens_NT[first_P] != tokens_NT[second_P]).mean(axis=1)
        return different
    sets = [frozenset(tokens) for tokens in inputs]
    pairs = zip(first_P.tolist(), second_P.tolist(), strict=True)
    return np.array([1 - len(sets[i] & sets[j]) / max(1, len(sets[i] | sets[j])) for i, j in pairs])


def kernel_alignment(routing_weights_NLK: ArrayLike, answers_N: ArrayLike) -> float | None:
    """Centred kernel alignment of the gating kernel with the answer kernel, debiased.

    Parameters
    ----------
    routing_weights_NLK : array of shape (N, L, K)
        Routing weights of at least four samples.
    answers_N : array of shape (N,)
        Answer of each sample; its kernel is 1 where two samples share the answer.

    Returns
    -------
    float or None
        About 0 (unrelated) to 1 (the same kernel up to scale); slightly negative by chance. None
        where all samples are routed alike, or all but at most one share one answer.

    Raises
    ------
    ValueError
        If there are fewer than four samples, or as many answers are not given.

    Notes
    -----
    HSIC_1 of Song et al. (2012) in place of HSIC in the alignment of Kornblith et al. (arXiv
    1905.00414), which is free of the bias that grows with features over samples. Computed from
    features, without an N x N matrix.
    """
    features_NF = gating_features(routing_weights_NLK)
    labels_N = np.asarray(answers_N)
    if len(labels_N) != len(features_NF) or len(labels_N) < 4:
        raise ValueError(
            f"found {len(features_NF)} samples and {len(labels_N)} answers, expected as many of "
            "each and at least 4"
        )
    # Centring and scaling change no alignment; without them large common parts would cancel in the
    # sums, and small differences between samples would count as none.
    features_NF = features_NF - features_NF.mean(axis=0)
    total = float((features_NF**2).sum())
    if total <= 1e-15:
        return None
    features_NF *= np.sqrt(len(features_NF) / total)
    one_hot_NC = (labels_N[:, None] == np.unique(labels_N)).astype(np.float64)
    one_hot_NC -= one_hot_NC.mean(axis=0)
    own, other = _hsic(features_NF, features_NF), _hsic(one_hot_NC, one_hot_NC)
    if own <= 1e-15 or other <= 1e-15:
        return None
    alignment = _hsic(features_NF, one_hot_NC) / np.sqrt(own * other)
    return float(np.clip(alignment, -1.0, 1.0))  # an inner product of unit length, but for rounding


def _hsic(x_NF: NDArray[np.float64], y_NG: NDArray[np.float64]) -> float:
    """HSIC_1 of two linear kernels from their features; diagonals are left out."""
    num = len(x_NF)
    x_diag_N, y_diag_N = (x_NF**2).sum(axis=1), (y_NG**2).sum(axis=1)
    trace = float(((x_NF.T @ y_NG) ** 2).sum() - x_diag_N @ y_diag_N)
    x_rows_N = x_NF @ x_NF.sum(axis=0) - x_diag_N
    y_rows_N = y_NG @ y_NG.sum(axis=0) - y_diag_N
    sums = float(x_rows_N.sum() * y_rows_N.sum()) / ((num - 1) * (num - 2))
    cross = 2 * float(x_rows_N @ y_rows_N) / (num - 2)
    return (trace + sums - cross) / (num * (num - 3))


def answer_variance_share(routing_weights_NLK: ArrayLike, answers_N: ArrayLike) -> float | None:
    """Share of routing variance that lies between answers, free of chance (epsilon squared).

    Returns
    -------
    float or None
        About 0 (answers do not matter) to 1; slightly negative by chance. None where all samples
        are routed alike, or no answer occurs twice, or there is only one.

    Notes
    -----
    1 - (within-answer variance per degree of freedom) / (total variance per degree of freedom),
    variances summed over layers and experts (Kelley 1935).
    """
    weights_NF = _flat(routing_weights_NLK)
    labels_N = np.unique(np.asarray(answers_N), return_inverse=True)[1]
    _check_as_many("answers", labels_N, len(weights_NF))
    counts = np.bincount(labels_N)
    num, num_answers = len(weights_NF), len(counts)
    total = float(((weights_NF - weights_NF.mean(axis=0)) ** 2).sum())
    if total <= 1e-15 or not 1 < num_answers < num:
        return None
    means_CF = np.eye(num_answers)[labels_N].T @ weights_NF / counts[:, None]
    within = float(((weights_NF - means_CF[labels_N]) ** 2).sum())
    return 1 - (within / (num - num_answers)) / (total / (num - 1))


def linear_input_share(
    routing_weights_NLK: ArrayLike, inputs: Sequence[Sequence[int]]
) -> float | None:
    """Share of routing variance that is linear in which token stands at which place.

    Returns
    -------
    float or None
        1 where routing is a sum of contributions of single tokens, about 0 where single tokens do
        not matter; slightly negative by chance. None where inputs differ in length, samples are
        too few for so many tokens, or all samples are routed alike.

    Notes
    -----
    Adjusted R squared (Ezekiel 1930) of the least-squares fit on one-hot tokens by place: the plain
    one grows with the number of tokens.
    """
    weights_NF = _flat(routing_weights_NLK)
    _check_as_many("inputs", inputs, len(weights_NF))
    if len({len(tokens) for tokens in inputs}) != 1 or not len(inputs[0]):
        return None
    tokens_NT = np.asarray(inputs)
    columns = [
        (tokens_NT[:, [place]] == np.unique(tokens_NT[:, place])).astype(np.float64)
        for place in range(tokens_NT.shape[1])
    ]
    design_NF = np.concatenate(columns, axis=1)
    design_NF -= design_NF.mean(axis=0)
    centred_NF = weights_NF - weights_NF.mean(axis=0)
    total = float((centred_NF**2).sum())
    left, values, _ = np.linalg.svd(design_NF, full_matrices=False)
    rank = int((values > 1e-9 * max(values.max(initial=0.0), 1.0)).sum())
    spare = len(weights_NF) - 1 - rank
    if total <= 1e-15 or spare < 1:
        return None
    explained = float(((left[:, :rank].T @ centred_NF) ** 2).sum())
    return 1 - (1 - explained / total) * (len(weights_NF) - 1) / spare


def dimension_over_null(routing_weights_NLK: ArrayLike, *, ridge: float, seed: int) -> float | None:
    """Effective dimension of the gating kernel over that with each layer's samples shuffled.

    Below 1 where layers agree on which samples are alike, about 1 where they do not.
    """
    null = null_routing(routing_weights_NLK, "shuffled_samples", seed)
    below = effective_dimension(gating_features(null), ridge)
    return effective_dimension(gating_features(routing_weights_NLK), ridge) / below


def _flat(routing_weights_NLK: ArrayLike) -> NDArray[np.float64]:
    weights_NLK = check_routing_weights(routing_weights_NLK)
    return weights_NLK.reshape(len(weights_NLK), -1)


def _check_as_many(name: str, given: Sequence[Any] | NDArray[Any], num_samples: int) -> None:
    """Raise ValueError unless there are as many inputs, or answers, as samples."""
    if len(given) != num_samples:
        raise ValueError(
            f"found {num_samples} samples and {len(given)} {name}, expected as many of each"
        )


def _hellinger(
    weights_NLK: NDArray[np.float64], first_P: NDArray[np.int64], second_P: NDArray[np.int64]
) -> NDArray[np.float64]:
    roots_NF = np.sqrt(weights_NLK).reshape(len(weights_NLK), -1)
    shared_P = np.einsum("pf,pf->p", roots_NF[first_P], roots_NF[second_P])
    distances_P: NDArray[np.float64] = 1 - shared_P / weights_NLK.shape[1]
    return distances_P


def _correlation(x_P: NDArray[np.float64], y_P: NDArray[np.float64]) -> float | None:
    for values_P in (x_P, y_P):
        if np.ptp(values_P) <= 1e-9 * max(1.0, float(np.abs(values_P).max())):
            return None
    return pearson(x_P, y_P)


def _residual(values_P: NDArray[np.float64], given_P: NDArray[np.float64]) -> NDArray[np.float64]:
    centred_P = given_P - given_P.mean()
    square = float(centred_P @ centred_P)
    slope = float(centred_P @ values_P) / square if square > 0 else 0.0
    residual_P: NDArray[np.float64] = values_P - values_P.mean() - slope * centred_P
    return residual_P
