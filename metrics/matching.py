"""Does a monitor follow the accuracy of its own training better than that of its siblings?

Trainings of one recipe share schedule, trend and noise that comes and goes with them. Agreement
that rests on these shows as well between the monitor of one training and the accuracy of another,
so it is the agreement inside a training, above that between trainings, that speaks for a link.
Under no link the monitors of one recipe are interchangeable, whatever their trends and noise are:
the test reassigns them, all ways, and is exact. Adding up signed z-values of single tests
(Stouffer) is not: a small bias of each, of one sign, grows with the number of trainings.

Shapes: J trainings, Q reassignments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

MAX_ENUMERATED = 50_000
"""Up to so many reassignments all are gone through, above as many are drawn."""

_TIE = 1e-9


@dataclass(frozen=True)
class MatchedTest:
    """Result of ``matched_test``.

    Attributes
    ----------
    excess : float
        Mean agreement inside trainings minus the mean between trainings of one recipe.
    p_value : float
        Two-sided, in (0, 1].
    smallest_p : float
        The smallest p-value that so many trainings can reach.
    """

    excess: float
    p_value: float
    smallest_p: float


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

    Raises
    ------
    ValueError
        If a pair of one recipe has no finite agreement.

    Notes
    -----
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
    num = prod(factorial(len(block)) for block in blocks)
    sums_Q = _enumerated(blocks) if num <= MAX_ENUMERATED else _drawn(blocks, seed)
    centre = float(sum(block.mean() * len(block) for block in blocks))
    off_Q = np.abs(sums_Q - centre)
    num_trainings = sum(map(len, blocks))
    pairs = sum(len(block) * (len(block) - 1) for block in blocks)
    own = float(sum(np.trace(block) for block in blocks))
    between = float(sum(block.sum() for block in blocks)) - own
    return MatchedTest(
        excess=own / num_trainings - between / pairs,
        p_value=float(np.mean(off_Q >= off_Q[0] - _TIE)),
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
