"""Calibration of the verdict test: how often it is wrong, and how often it sees what is there.

Unrelated series (:mod:`metrics.simulated`) are simulated and the share of p-values at or below 5 %
is counted (false positives; the promise is at most 7 %); then series that share their fluctuations
(power); then tables of tests under Holm's correction. A test that abstains has not rejected.

Shapes: T checkpoints.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from scipy.stats import norm

from metrics.correlations import holm
from metrics.detrended import detrended_test
from metrics.resampling import matched_test, permutation_test
from metrics.simulated import PairMaker, Series, counted, null_settings, sharing, unrelated_recipe

PValue = Callable[[Series, Series, Series, int], float | None]
"""(x, y, steps, seed) -> p-value, or None where the test abstains."""

LEVEL = 0.05
PROMISED_RATE = 0.07

NANO_STEPS = (
    *range(0, 101, 25),
    *range(150, 1001, 50),
    *range(1100, 2001, 100),
    2200,
    2400,
)
"""The checkpoints of the nano study: uneven, 35 of them."""


LEADERBOARD_STEPS = (*range(0, 601, 50), *range(700, 1001, 100), *range(1200, 2401, 200))
"""The checkpoints of the leaderboard's trainings: uneven, 24 of them."""


def even_steps(num_checkpoints: int) -> tuple[int, ...]:
    """Return equidistant steps, 100 apart."""
    return tuple(range(0, 100 * num_checkpoints, 100))


GRIDS: dict[str, tuple[int, ...]] = {
    **{f"even {num}": even_steps(num) for num in (6, 8, 10, 11, 12, 14, 16, 20, 26, 35)},
    "nano, last 20": NANO_STEPS[-20:],
    "nano, last 28": NANO_STEPS[-28:],
    "nano": NANO_STEPS,
}


@dataclass(frozen=True)
class CalibrationRow:
    """Outcome of one simulated setting.

    Attributes
    ----------
    grid : str
        Name of the checkpoint grid.
    num_checkpoints : int
        Checkpoints in it.
    family : str
        How the two series were made.
    noise : str
        Observation noise relative to the range of the curve, or the shared part for power.
    num_simulations : int
        Simulated pairs.
    rejection_rate : float
        Share of pairs with p <= 0.05: the false-positive rate, or the power.
    abstain_rate : float
        Share of pairs without a p-value.
    """

    grid: str
    num_checkpoints: int
    family: str
    noise: str
    num_simulations: int
    rejection_rate: float
    abstain_rate: float


def verdict_p_value(x_T: Series, y_T: Series, steps_T: Series, seed: int) -> float | None:
    """p-value of the verdict test, with few permutations to keep simulations quick."""
    return detrended_test(x_T, y_T, steps_T, seed=seed, num_permutations=199).p_value


def naive_p_value(x_T: Series, y_T: Series, steps_T: Series, seed: int) -> float | None:
    """p-value of the plain permutation test of Pearson's r, trends left in."""
    return permutation_test(x_T, y_T, seed=seed, num_permutations=199).p_value


def difference_p_value(x_T: Series, y_T: Series, steps_T: Series, seed: int) -> float | None:
    """p-value of the permutation test of first differences, the usual first remedy."""
    return naive_p_value(np.diff(x_T), np.diff(y_T), steps_T, seed)


def calibrate(
    test: PValue = verdict_p_value,
    *,
    num_simulations: int,
    seed: int,
    grids: Sequence[str] = tuple(GRIDS),
    families: Sequence[str] | None = None,
) -> list[CalibrationRow]:
    """Measure a test's false-positive rate over independent trending series.

    Parameters
    ----------
    test : callable
        (x, y, steps, seed) -> p-value or None.
    num_simulations : int
        Pairs per setting; the standard error of a 5 % rate is sqrt(0.0475 / num_simulations).
    seed : int
        Seed; each setting has its own stream, so a subset reproduces the full table's rows.
    grids, families : sequence of str
        Names from ``GRIDS`` and of families; all when left out.

    Returns
    -------
    list of CalibrationRow
        One row for each grid, family and noise.

    Examples
    --------
    >>> rows = calibrate(num_simulations=20, seed=0, grids=["even 10"], families=["random walk"])
    >>> rows[0].family, rows[0].rejection_rate <= 0.25
    ('random walk', True)
    """
    chosen = None if families is None else set(families)
    rows = []
    for grid in grids:
        steps_T = np.array(GRIDS[grid], dtype=np.float64)
        for number, (family, noise, make) in enumerate(null_settings()):
            if chosen is None or family in chosen:
                rng = np.random.default_rng([seed, len(steps_T), number])
                pairs = [make(steps_T, rng) for _ in range(num_simulations)]
                rows.append(_measure(test, pairs, steps_T, grid, family, noise))
    return rows


def power(
    test: PValue = verdict_p_value,
    *,
    num_simulations: int,
    seed: int,
    grids: Sequence[str] = tuple(GRIDS),
) -> list[CalibrationRow]:
    """Measure how often a test finds fluctuations that two trending series share.

    Both series are independent saturating curves plus fluctuations of 5 % of their range whose
    innovations correlate at 0.7, 0.9 or 0.97, either noise around the trend or a random walk. In
    the family "perfect monitor" one is the true accuracy, which wobbles by 5 or 1 % of its range,
    and the other what 240 or 1,000 documents show of it. Parameters and rows as in ``calibrate``.
    """
    rows = []
    for grid in grids:
        steps_T = np.array(GRIDS[grid], dtype=np.float64)
        for number, (family, noise, make) in enumerate(_POWER_SETTINGS):
            rng = np.random.default_rng([seed, len(steps_T), 1000 + number])
            pairs = [make(steps_T, rng) for _ in range(num_simulations)]
            rows.append(_measure(test, pairs, steps_T, grid, family, noise))
    return rows


@dataclass(frozen=True)
class LeadRow:
    """How a monitor that leads or lags accuracy is judged: shares of simulated pairs.

    Attributes
    ----------
    grid : str
        Name of the checkpoint grid.
    family : str
        What is shared, and how closely.
    lead : int
        Checkpoints by which the monitor leads; negative where it lags.
    right_sign, wrong_sign : float
        Shares with p <= 0.05 and the sign of the link, or the other one.
    right_lag : float
        Share with p <= 0.05 at the true lag.
    """

    grid: str
    family: str
    lead: int
    right_sign: float
    wrong_sign: float
    right_lag: float


def lead_rates(
    *,
    num_simulations: int,
    seed: int,
    grids: Sequence[str] = tuple(GRIDS),
    leads: Sequence[int] = (-1, 0, 1, 2, 3),
) -> list[LeadRow]:
    """Measure sign and lag of the verdict test where one series leads the other.

    Fluctuations as in ``power``, shared at 0.9, once as noise and once as a random walk.
    """
    rows = []
    for grid in grids:
        steps_T = np.array(GRIDS[grid], dtype=np.float64)
        for walks in (False, True):
            for lead in leads:
                rng = np.random.default_rng([seed, len(steps_T), walks, lead + 100])
                make = partial(sharing, walks=walks, shared=0.9, lead=lead)
                found = [
                    detrended_test(*make(steps_T, rng), steps_T, seed=n, num_permutations=199)
                    for n in range(num_simulations)
                ]
                seen = [one for one in found if one.p_value is not None and one.p_value <= LEVEL]
                signs = [one.statistic_spearman or 0.0 for one in seen]
                rows.append(
                    LeadRow(
                        grid=grid,
                        family=f"shared {'random walk' if walks else 'noise'}, r = 0.9",
                        lead=lead,
                        right_sign=sum(sign > 0 for sign in signs) / num_simulations,
                        wrong_sign=sum(sign < 0 for sign in signs) / num_simulations,
                        right_lag=sum(one.lag == lead for one in seen) / num_simulations,
                    )
                )
    return rows


def familywise(
    *,
    num_tables: int,
    seed: int,
    num_tests: int = 24,
    grids: Sequence[str] = ("even 20", "even 35"),
    families: Sequence[str] | None = None,
) -> list[CalibrationRow]:
    """Measure how often a table of unrelated pairs holds a false positive after Holm's correction.

    Parameters
    ----------
    num_tables : int
        Simulated tables per setting.
    seed, grids, families
        As in ``calibrate``.
    num_tests : int
        Independent pairs per table, the hardest case for the correction.

    Returns
    -------
    list of CalibrationRow
        `rejection_rate` is the share of tables with any corrected p-value <= 0.05. As in a study,
        a p-value near the level is taken from more resamples, 9,999.
    """
    chosen = None if families is None else set(families)
    rows = []
    for grid in grids:
        steps_T = np.array(GRIDS[grid], dtype=np.float64)
        for number, (family, noise, make) in enumerate(null_settings()):
            if chosen is not None and family not in chosen:
                continue
            rng = np.random.default_rng([seed, len(steps_T), 2000 + number])
            tables = [
                [
                    _finer_p_value(*make(steps_T, rng), steps_T, table * num_tests + place)
                    for place in range(num_tests)
                ]
                for table in range(num_tables)
            ]
            smallest = [min((p for p in holm(t) if p is not None), default=1.0) for t in tables]
            rows.append(
                CalibrationRow(
                    grid=grid,
                    num_checkpoints=len(steps_T),
                    family=family,
                    noise=noise,
                    num_simulations=num_tables,
                    rejection_rate=sum(p <= LEVEL for p in smallest) / num_tables,
                    abstain_rate=sum(t.count(None) for t in tables) / (num_tables * num_tests),
                )
            )
    return rows


@dataclass(frozen=True)
class FollowRow:
    """How often unrelated trainings are taken for following: shares of studies with p <= 0.05.

    Attributes
    ----------
    family, noise : str
        The curves that all trainings of a recipe share, and the size of their own noise.
    single : float
        Of the verdict test of single trainings.
    added_up : float
        Of the signed z of all trainings of a study, added up (Stouffer).
    matched : float
        Of ``metrics.resampling.matched_test``, which the leaderboard uses.
    """

    family: str
    noise: str
    single: float
    added_up: float
    matched: float


def follow_rates(
    *,
    num_studies: int,
    seed: int,
    families: Sequence[str] = ("saturating exponential", "logistic", "power law"),
    sizes: Sequence[float] = (0.01, 0.03),
    num_recipes: int = 3,
    num_trainings: int = 4,
) -> list[FollowRow]:
    """Measure the leaderboard's test of following on trainings that share their recipe's curves.

    A study has `num_recipes` recipes of `num_trainings` each, one domain, and the 24 uneven
    checkpoints of the leaderboard's studies.
    """
    steps_T = np.array(LEADERBOARD_STEPS, dtype=np.float64)
    recipes = [f"{r}" for r in range(num_recipes) for _ in range(num_trainings)]
    rows = []
    for number, (family, size) in enumerate(product(families, sizes)):
        rng = np.random.default_rng([seed, 3000 + number])
        single, added_up, matched = [], [], []
        for _ in range(num_studies):
            pairs = [
                pair
                for _ in range(num_recipes)
                for pair in unrelated_recipe(family, steps_T, rng, size=size, num=num_trainings)
            ]
            z_JJ = np.full((len(pairs), len(pairs)), np.nan)
            for i, j in product(range(len(pairs)), repeat=2):
                if recipes[i] == recipes[j]:
                    z_JJ[i, j] = _signed_z(pairs[i][0], pairs[j][1], steps_T)
            own_J = np.diag(z_JJ)
            single += list(2 * norm.sf(np.abs(own_J)) <= LEVEL)
            added_up.append(2 * norm.sf(abs(own_J.sum()) / np.sqrt(len(pairs))) <= LEVEL)
            test = matched_test(z_JJ, recipes)
            assert test is not None
            matched.append(test.p_value <= LEVEL)
        rates = (float(np.mean(one)) for one in (single, added_up, matched))
        rows.append(FollowRow(family, f"{size:g}", *rates))
    return rows


def _signed_z(x_T: Series, y_T: Series, steps_T: Series) -> float:
    test = detrended_test(x_T, y_T, steps_T, seed=0, num_permutations=199)
    if test.p_value is None or test.statistic_spearman is None:
        return 0.0
    return float(np.sign(test.statistic_spearman) * norm.isf(test.p_value / 2))


def _finer_p_value(x_T: Series, y_T: Series, steps_T: Series, seed: int) -> float | None:
    p = verdict_p_value(x_T, y_T, steps_T, seed)
    if p is None or p > 2 * LEVEL:
        return p
    return detrended_test(x_T, y_T, steps_T, seed=seed, num_permutations=9999).p_value


def worst_by_grid(rows: Sequence[CalibrationRow]) -> list[CalibrationRow]:
    """Return the row with the highest rejection rate of each grid, in order."""
    worst: dict[str, CalibrationRow] = {}
    for row in rows:
        if row.grid not in worst or row.rejection_rate > worst[row.grid].rejection_rate:
            worst[row.grid] = row
    return list(worst.values())


def markdown_table(rows: Sequence[CalibrationRow]) -> str:
    """Return rows as a Markdown table."""
    head = "| grid | n | family | noise | simulations | p <= .05 | abstains |\n"
    lines = (
        f"| {row.grid} | {row.num_checkpoints} | {row.family} | {row.noise} "
        f"| {row.num_simulations} | {row.rejection_rate:.3f} | {row.abstain_rate:.2f} |"
        for row in rows
    )
    return head + "|---|---|---|---|---|---|---|\n" + "\n".join(lines)


_POWER_SETTINGS: tuple[tuple[str, str, PairMaker], ...] = (
    *(
        (
            "shared random walk" if walks else "shared noise",
            f"r = {shared}",
            partial(sharing, walks=walks, shared=shared),
        )
        for walks in (False, True)
        for shared in (0.7, 0.9, 0.97)
    ),
    *(
        (
            "perfect monitor",
            f"wobble {size}, {num:,} documents",
            partial(counted, size=size, num_documents=num),
        )
        for size in (0.05, 0.01)
        for num in (240, 1000)
    ),
)


def _measure(
    test: PValue,
    pairs: Sequence[tuple[Series, Series]],
    steps_T: Series,
    grid: str,
    family: str,
    noise: str,
) -> CalibrationRow:
    p_values = [test(x_T, y_T, steps_T, index) for index, (x_T, y_T) in enumerate(pairs)]
    num_rejected = sum(p is not None and p <= LEVEL for p in p_values)
    return CalibrationRow(
        grid=grid,
        num_checkpoints=len(steps_T),
        family=family,
        noise=noise,
        num_simulations=len(pairs),
        rejection_rate=num_rejected / len(pairs),
        abstain_rate=p_values.count(None) / len(pairs),
    )
