"""Calibration of the verdict test: how often it is wrong, and how often it finds what is there.

Unrelated series (:mod:`metrics.simulated`) are simulated and the share of p-values at or below 5 %
is counted (false positives; the promise is at most 7 %); then series that share their fluctuations
(power); then tables of tests under Holm's correction. A test that abstains has not rejected.

Shapes: T checkpoints, J trainings.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from metrics.correlations import holm
from metrics.detrended import detrended_test
from metrics.resampling import matched_test, permutation_test
from metrics.simulated import PairSampler, Series, counted, null_settings, sharing, unrelated_recipe

PValue = Callable[[Series, Series, Series, int], float | None]
"""(x, y, steps, seed) -> p-value, or None where the test abstains."""

LEVEL = 0.05
PROMISED_RATE = 0.07
FEW = 199
"""Permutations of a simulated test, so that simulations are quick."""

NANO_STEPS = (*range(0, 101, 25), *range(150, 1001, 50), *range(1100, 2001, 100), 2200, 2400)
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

_POWER_SETTINGS: tuple[tuple[str, str, PairSampler], ...] = (
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


@dataclass(frozen=True)
class CalibrationRow:
    """Outcome of one simulated setting."""

    grid: str
    """Name of the checkpoint grid."""
    num_checkpoints: int
    family: str
    """How the two series were drawn."""
    noise: str
    """Observation noise relative to the range of the curve, or the shared part for power."""
    num_simulations: int
    """Simulated pairs, or tables of pairs."""
    rejection_rate: float
    """Share of pairs with p <= 0.05: the false-positive rate, or the power."""
    abstain_rate: float
    """Share of pairs without a p-value."""


def verdict_p_value(x_T: Series, y_T: Series, steps_T: Series, seed: int) -> float | None:
    """p-value of the verdict test."""
    return detrended_test(x_T, y_T, steps_T, seed=seed, num_permutations=FEW).p_value


def naive_p_value(x_T: Series, y_T: Series, steps_T: Series, seed: int) -> float | None:
    """p-value of the plain permutation test of Pearson's r, trends left in."""
    return permutation_test(x_T, y_T, seed=seed, num_permutations=FEW).p_value


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
    settings = _streams(null_settings(), grids, families, seed, 0)
    return [_measure(test, num_simulations, *setting) for setting in settings]


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
    settings = _streams(_POWER_SETTINGS, grids, None, seed, 1000)
    return [_measure(test, num_simulations, *setting) for setting in settings]


def lead_rates(
    *,
    num_simulations: int,
    seed: int,
    grids: Sequence[str] = tuple(GRIDS),
    leads: Sequence[int] = (-1, 0, 1, 2, 3),
) -> list[dict[str, Any]]:
    """Measure sign and lag of the verdict test where one series leads the other.

    Fluctuations as in ``power``, shared at 0.9, once as noise and once as a random walk. `lead` is
    in checkpoints, negative where the monitor lags; rates are shares of the simulated pairs with
    p <= 0.05 that have the sign of the link, the other sign, and the true lag.
    """
    rows = []
    for grid, walks, lead in product(grids, (False, True), leads):
        steps_T = np.array(GRIDS[grid], dtype=np.float64)
        rng = np.random.default_rng([seed, len(steps_T), walks, lead + 100])
        tests = (
            detrended_test(
                *sharing(steps_T, rng, walks=walks, shared=0.9, lead=lead),
                steps_T,
                seed=number,
                num_permutations=FEW,
            )
            for number in range(num_simulations)
        )
        found = [one for one in tests if one.p_value is not None and one.p_value <= LEVEL]
        signs = [one.statistic_spearman or 0.0 for one in found]
        rows.append(
            {
                "grid": grid,
                "family": f"shared {'random walk' if walks else 'noise'}, r = 0.9",
                "lead": lead,
                "right_sign": sum(sign > 0 for sign in signs) / num_simulations,
                "wrong_sign": sum(sign < 0 for sign in signs) / num_simulations,
                "right_lag": sum(one.lag == lead for one in found) / num_simulations,
            }
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

    A table has `num_tests` independent pairs, the hardest case for the correction. In the rows
    `rejection_rate` is the share of tables with any corrected p-value <= 0.05. As in a study, a
    p-value near the level is taken from more resamples, 9,999.
    """
    rows = []
    for grid, family, noise, draw, rng in _streams(null_settings(), grids, families, seed, 2000):
        steps_T = np.array(GRIDS[grid], dtype=np.float64)
        tables = [
            [
                _finer_p_value(*draw(steps_T, rng), steps_T, table * num_tests + place)
                for place in range(num_tests)
            ]
            for table in range(num_tables)
        ]
        smallest = [min((p for p in holm(t) if p is not None), default=1.0) for t in tables]
        rejected = sum(p <= LEVEL for p in smallest) / num_tables
        abstains = sum(t.count(None) for t in tables) / (num_tables * num_tests)
        rows.append(
            CalibrationRow(grid, len(steps_T), family, noise, num_tables, rejected, abstains)
        )
    return rows


def follow_rates(
    *,
    num_studies: int,
    seed: int,
    families: Sequence[str] = ("saturating exponential", "logistic", "power law"),
    sizes: Sequence[float] = (0.01, 0.03),
    num_recipes: int = 3,
    num_trainings: int = 4,
) -> list[dict[str, Any]]:
    """Measure the leaderboard's test of following on trainings that share their recipe's curves.

    A study has `num_recipes` recipes of `num_trainings` each, one domain, and the 24 uneven
    checkpoints of the leaderboard's studies. Rates are shares with p <= 0.05: `single` of the
    verdict tests of single trainings, `added_up` of studies by the sum of their signed z
    (Stouffer), `matched` of studies by ``metrics.resampling.matched_test``, as on the leaderboard.
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
            z_JJ = _signed_z(pairs, recipes, steps_T)
            own_J = np.diag(z_JJ)
            single += list(2 * norm.sf(np.abs(own_J)) <= LEVEL)
            added_up.append(2 * norm.sf(abs(own_J.sum()) / np.sqrt(len(pairs))) <= LEVEL)
            test = matched_test(z_JJ, recipes)
            assert test is not None
            matched.append(test.p_value <= LEVEL)
        rates = {"single": single, "added_up": added_up, "matched": matched}
        means = {name: float(np.mean(found)) for name, found in rates.items()}
        rows.append({"family": family, "noise": f"{size:g}", **means})
    return rows


def markdown_table(rows: Sequence[CalibrationRow]) -> str:
    """Return rows as a Markdown table."""
    head = "| grid | n | family | noise | simulations | p <= .05 | abstains |\n"
    lines = (
        f"| {row.grid} | {row.num_checkpoints} | {row.family} | {row.noise} "
        f"| {row.num_simulations} | {row.rejection_rate:.3f} | {row.abstain_rate:.2f} |"
        for row in rows
    )
    return head + "|---|---|---|---|---|---|---|\n" + "\n".join(lines)


def _streams(
    settings: Iterable[tuple[str, str, PairSampler]],
    grids: Sequence[str],
    families: Sequence[str] | None,
    seed: int,
    offset: int,
) -> Iterator[tuple[str, str, str, PairSampler, np.random.Generator]]:
    """Grid, family, noise and sampler of every setting that is wanted, each with its own stream."""
    for grid, (number, (family, noise, draw)) in product(grids, enumerate(settings)):
        if families is None or family in families:
            rng = np.random.default_rng([seed, len(GRIDS[grid]), offset + number])
            yield grid, family, noise, draw, rng


def _measure(
    test: PValue,
    num_simulations: int,
    grid: str,
    family: str,
    noise: str,
    draw: PairSampler,
    rng: np.random.Generator,
) -> CalibrationRow:
    steps_T = np.array(GRIDS[grid], dtype=np.float64)
    pairs = [draw(steps_T, rng) for _ in range(num_simulations)]
    p_values = [test(x_T, y_T, steps_T, index) for index, (x_T, y_T) in enumerate(pairs)]
    rejected = sum(p is not None and p <= LEVEL for p in p_values) / num_simulations
    abstains = p_values.count(None) / num_simulations
    return CalibrationRow(grid, len(steps_T), family, noise, num_simulations, rejected, abstains)


def _signed_z(
    pairs: Sequence[tuple[Series, Series]], recipes: Sequence[str], steps_T: Series
) -> NDArray[np.float64]:
    """Signed z of every monitor with every accuracy of its recipe; NaN between recipes."""
    z_JJ = np.full((len(pairs), len(pairs)), np.nan)
    for i, j in product(range(len(pairs)), repeat=2):
        if recipes[i] != recipes[j]:
            continue
        test = detrended_test(pairs[i][0], pairs[j][1], steps_T, seed=0, num_permutations=FEW)
        z_JJ[i, j] = test.signed_z
    return z_JJ


def _finer_p_value(x_T: Series, y_T: Series, steps_T: Series, seed: int) -> float | None:
    p = verdict_p_value(x_T, y_T, steps_T, seed)
    if p is None or p > 2 * LEVEL:
        return p
    return detrended_test(x_T, y_T, steps_T, seed=seed, num_permutations=9999).p_value
