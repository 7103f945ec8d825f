"""Permutation p-values and bootstrap intervals over few checkpoints or few trainings.

Shapes: T checkpoints (or differences between them), M resamples, J trainings, Q reassignments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

LARGEST_EXACT = 8
"""Up to this many values all orders are enumerated (8! = 40,320)."""

_CHUNK = 10_000
# Sums of the same terms in another order differ in the last bits; ties must still count as ties.
_TIE = 1e-12
# Of sums of agreements, which are of any size.
_TIE_OF_SUMS = 1e-9


@dataclass(frozen=True)
class PermutationTest:
    """Two-sided permutation test of a correlation."""

    p_value: float
    """Share of orders whose |correlation| is at least the observed one, in (0, 1]."""
    smallest_p: float
    """The smallest p-value these data and this many permutations can reach."""


def unit_centred(values_T: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return values minus their mean, scaled to length one (all zeros where constant)."""
    centred_T = np.asarray(values_T, dtype=np.float64) - np.mean(values_T)
    length = float(np.sqrt(centred_T @ centred_T))
    scale = float(np.max(np.abs(values_T), initial=0.0))
    if length <= 1e-12 * scale * math.sqrt(len(centred_T)):
        return np.zeros_like(centred_T)
    return centred_T / length


def pearson(x_T: NDArray[np.floating], y_T: NDArray[np.floating]) -> float:
    """Pearson correlation in [-1, 1]; 0 where one of the two is constant."""
    return float(np.clip(unit_centred(x_T) @ unit_centred(y_T), -1.0, 1.0))


def permutation_test(
    x_T: NDArray[np.floating],
    y_T: NDArray[np.floating],
    *,
    seed: int,
    num_permutations: int = 9999,
) -> PermutationTest:
    """Two-sided permutation p-value of the Pearson correlation of two series.

    Parameters
    ----------
    x_T, y_T : array of shape (T,)
        The values. Ranks give a Spearman test.
    seed : int
        Seed of the drawn orders; without effect where all orders are enumerated.
    num_permutations : int
        Orders drawn when T > 8. Up to T = 8 all T! orders are used.

    Returns
    -------
    PermutationTest
        p = (number of orders at least as extreme) / T! when enumerated, else (b + 1) / (m + 1),
        which is never zero (Phipson and Smyth 2010). With a series that is its own mirror image,
        such as evenly spaced values, two orders share the largest correlation.

    Raises ValueError if ``num_permutations`` is below 1.

    Examples
    --------
    >>> permutation_test(np.arange(4.0), np.array([1.0, 2.0, 4.0, 9.0]), seed=0)
    PermutationTest(p_value=0.08333333333333333, smallest_p=0.08333333333333333)
    """
    if num_permutations < 1:
        raise ValueError(f"num_permutations is {num_permutations}; give at least 1, e.g. 9999")
    num_values = len(x_T)
    exact = num_values <= LARGEST_EXACT
    x_unit_T, y_unit_T = unit_centred(x_T), unit_centred(y_T)
    observed = abs(float(x_unit_T @ y_unit_T))
    if exact:
        correlations_M = np.abs(y_unit_T[all_orders(num_values)] @ x_unit_T)
    else:
        correlations_M = _drawn_correlations(x_unit_T, y_unit_T, seed, num_permutations)
    num_extreme = int(np.sum(correlations_M >= observed - _TIE))
    if not exact:
        return PermutationTest(
            (num_extreme + 1) / (num_permutations + 1), 1 / (num_permutations + 1)
        )
    num_largest = int(np.sum(correlations_M >= correlations_M.max() - _TIE))
    return PermutationTest(num_extreme / len(correlations_M), num_largest / len(correlations_M))


def bootstrap_interval(
    x_T: NDArray[np.floating],
    y_T: NDArray[np.floating],
    *,
    seed: int,
    num_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of Pearson's r, checkpoints drawn with replacement.

    Resamples in which a series is constant have no correlation and are left out; None where that
    leaves fewer than half. Checkpoints are treated as independent, which they are not: the
    interval ignores serial dependence and is too narrow for trending series.
    """
    rng = np.random.default_rng(seed)
    index_MT = rng.integers(0, len(x_T), size=(num_bootstrap, len(x_T)))
    # Without centring first the one-pass variances below would be inaccurate.
    x_MT, y_MT = unit_centred(x_T)[index_MT], unit_centred(y_T)[index_MT]
    x_MT = x_MT - x_MT.mean(axis=1, keepdims=True)
    y_MT = y_MT - y_MT.mean(axis=1, keepdims=True)
    length_M = np.sqrt(np.sum(x_MT**2, axis=1) * np.sum(y_MT**2, axis=1))
    usable_M = length_M > _TIE
    if 2 * int(usable_M.sum()) < num_bootstrap:
        return None
    correlations_M = np.sum(x_MT * y_MT, axis=1)[usable_M] / length_M[usable_M]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.clip(correlations_M, -1, 1), [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=LARGEST_EXACT + 1)
def all_orders(num_values: int) -> NDArray[np.intp]:
    """Every order of ``num_values`` items; cached, because a study needs the same few sizes."""
    orders = np.array(list(permutations(range(num_values))), dtype=np.intp)
    orders.setflags(write=False)
    return orders


def _drawn_correlations(
    x_unit_T: NDArray[np.float64], y_unit_T: NDArray[np.float64], seed: int, num_permutations: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    correlations_M = np.empty(num_permutations)
    for start in range(0, num_permutations, _CHUNK):
        size = min(_CHUNK, num_permutations - start)
        shuffled_MT = rng.permuted(np.broadcast_to(y_unit_T, (size, len(y_unit_T))), axis=1)
        correlations_M[start : start + size] = np.abs(shuffled_MT @ x_unit_T)
    return correlations_M


MAX_ENUMERATED = 50_000
"""Up to so many reassignments all are gone through, above as many are drawn."""


@dataclass(frozen=True)
class MatchedTest:
    """Result of ``matched_test``."""

    excess: float
    """Mean agreement inside trainings minus the mean between trainings of one recipe."""
    p_value: float
    """Two-sided, in (0, 1]."""
    smallest_p: float
    """The smallest p-value that so many trainings can reach."""


def matched_test(
    agreement_JJ: NDArray[np.float64], recipes_J: Sequence[str], *, seed: int = 0
) -> MatchedTest | None:
    """Test whether agreement is larger (or smaller) inside trainings than between siblings.

    Parameters
    ----------
    agreement_JJ : array of shape (J, J)
        Row i, column j: how far the monitor of training i agrees with the accuracy of training j,
        in any unit with a sign. Only pairs of one recipe are read.
    recipes_J : sequence of str
        Recipe of each training.
    seed : int
        Seed of the reassignments, where they are drawn.

    Returns
    -------
    MatchedTest or None
        None where no two trainings have one recipe.

    Raises ValueError if a pair of one recipe has no finite agreement.

    Notes
    -----
    Trainings of one recipe share schedule, trend and noise that comes and goes with them. Agreement
    that rests on these shows as well between the monitor of one training and the accuracy of
    another, so the agreement inside a training above that between trainings is what shows a link.
    Under no link the monitors of one recipe are interchangeable, so that reassigning them, all
    ways, is exact. Adding up signed z-values of single tests (Stouffer) is not: a small bias of
    each, of one sign, grows with the number of trainings.

    With J_r trainings of recipe r there are prod_r J_r! reassignments; the statistic is the sum of
    the agreements of matched pairs, its distance from the mean over all reassignments is compared.

    Examples
    --------
    >>> matched_test(3 * np.eye(4), ["base"] * 4).p_value == 1 / 24
    True
    """
    blocks = []
    for recipe in dict.fromkeys(recipes_J):
        places = [at for at, name in enumerate(recipes_J) if name == recipe]
        if len(places) > 1:
            blocks.append(agreement_JJ[np.ix_(places, places)])
    if not blocks:
        return None
    if not all(np.isfinite(block).all() for block in blocks):
        raise ValueError("a pair of trainings of one recipe has no finite agreement")
    num = math.prod(math.factorial(len(block)) for block in blocks)
    sums_Q = _enumerated(blocks) if num <= MAX_ENUMERATED else _drawn(blocks, seed)
    centre = float(sum(block.mean() * len(block) for block in blocks))
    off_Q = np.abs(sums_Q - centre)
    num_trainings = sum(map(len, blocks))
    pairs = sum(len(block) * (len(block) - 1) for block in blocks)
    own = float(sum(np.trace(block) for block in blocks))
    between = float(sum(block.sum() for block in blocks)) - own
    return MatchedTest(
        excess=own / num_trainings - between / pairs,
        p_value=float(np.mean(off_Q >= off_Q[0] - _TIE_OF_SUMS)),
        smallest_p=1 / len(off_Q),
    )


def _enumerated(blocks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sums of matched agreements under every reassignment, the true one first."""
    sums_Q = np.zeros(1)
    for block in blocks:
        orders = np.array(list(permutations(range(len(block)))))
        sums_Q = np.add.outer(sums_Q, block[orders, np.arange(len(block))].sum(axis=1)).ravel()
    return sums_Q


def _drawn(blocks: list[NDArray[np.float64]], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    sums_Q = np.zeros(MAX_ENUMERATED)
    for block in blocks:
        columns = np.arange(len(block))
        orders = rng.permuted(np.tile(columns, (MAX_ENUMERATED, 1)), axis=1)
        orders[0] = columns
        sums_Q += block[orders, columns].sum(axis=1)
    return sums_Q
