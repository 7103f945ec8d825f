"""Calibration of the verdict test: how often it is wrong, and how often it sees what is there.

Independent series that both trend are simulated and the share of p-values at or below 5 % is
counted (false positives; the promise is at most 7 %); then series that share their fluctuations
(power). A test that abstains has not rejected. Nothing here looks at real data.

Shapes: T checkpoints.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.detrended import detrended_test
from metrics.resampling import permutation_test

Series = NDArray[np.float64]
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
        for number, (family, noise, make) in enumerate(_null_settings()):
            if chosen is None or family in chosen:
                rng = np.random.default_rng([seed, len(steps_T), number])
                pairs = [(make(steps_T, rng), make(steps_T, rng)) for _ in range(num_simulations)]
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
    innovations correlate at 0.7, 0.9 or 0.97, either noise around the trend or a random walk.
    Parameters and rows as in ``calibrate``.
    """
    rows = []
    for grid in grids:
        steps_T = np.array(GRIDS[grid], dtype=np.float64)
        for number, (walks, shared) in enumerate(
            (walks, shared) for walks in (False, True) for shared in (0.7, 0.9, 0.97)
        ):
            rng = np.random.default_rng([seed, len(steps_T), 1000 + number])
            pairs = [_sharing(steps_T, rng, walks, shared) for _ in range(num_simulations)]
            family = "shared random walk" if walks else "shared noise"
            rows.append(_measure(test, pairs, steps_T, grid, family, f"r = {shared}"))
    return rows


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


Maker = Callable[[Series, np.random.Generator], Series]


def _null_settings() -> Iterator[tuple[str, str, Maker]]:
    """Yield (family, noise, maker of one series) for every null setting."""
    for family, curve in _CURVES.items():
        for size in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3):
            yield family, f"{size:g}", _with_noise(curve, size)
        yield family, "mixed", _with_mixed_noise(curve)
        yield family, "binomial", _with_binomial_noise(curve)
        yield family, "heavy tails", _with_heavy_tails(curve)
        yield family, "autocorrelated", _with_autocorrelated_noise(curve)
        yield family, "shrinking", _with_shrinking_noise(curve)
    for family, process in _PROCESSES.items():
        yield family, "-", process
    yield "two different families", "any", _any_family


def _saturating(steps_T: Series, rng: np.random.Generator) -> Series:
    return 1 - np.exp(-_time(steps_T) / np.exp(rng.uniform(np.log(0.05), 0)))


def _saturating_by_index(steps_T: Series, rng: np.random.Generator) -> Series:
    return _saturating(np.arange(len(steps_T), dtype=np.float64), rng)


def _logistic(steps_T: Series, rng: np.random.Generator) -> Series:
    index_T = np.linspace(0, 1, len(steps_T))
    width = np.exp(rng.uniform(np.log(0.02), np.log(0.3)))
    return 1 / (1 + np.exp(-(index_T - rng.uniform(0, 1)) / width))


def _power_law(steps_T: Series, rng: np.random.Generator) -> Series:
    return 1 - (1 + 50 * _time(steps_T)) ** -rng.uniform(0.2, 1.5)


def _time(steps_T: Series) -> Series:
    return (steps_T - steps_T[0]) / (steps_T[-1] - steps_T[0])


def _white(steps_T: Series, rng: np.random.Generator) -> Series:
    return rng.normal(size=len(steps_T))


def _random_walk(steps_T: Series, rng: np.random.Generator) -> Series:
    return np.cumsum(_white(steps_T, rng))


def _random_walk_in_steps(steps_T: Series, rng: np.random.Generator) -> Series:
    scale_T = np.sqrt(np.diff(steps_T, prepend=steps_T[0]))
    return np.cumsum(scale_T * _white(steps_T, rng))


def _integrated_walk(steps_T: Series, rng: np.random.Generator) -> Series:
    return np.cumsum(_random_walk(steps_T, rng))


def _autoregressive(coefficient: float) -> Maker:
    def make(steps_T: Series, rng: np.random.Generator) -> Series:
        values_T = _white(steps_T, rng)
        values_T[0] /= np.sqrt(1 - coefficient**2)  # start in the stationary distribution
        for index in range(1, len(values_T)):
            values_T[index] += coefficient * values_T[index - 1]
        return values_T

    return make


def _integrated_autoregressive(steps_T: Series, rng: np.random.Generator) -> Series:
    return np.cumsum(_autoregressive(0.5)(steps_T, rng))


def _saturating_with_walk(steps_T: Series, rng: np.random.Generator) -> Series:
    size = 0.1 * np.exp(rng.uniform(-2, 2)) / len(steps_T)
    return _saturating(steps_T, rng) + size * _random_walk(steps_T, rng)


_CURVES: dict[str, Maker] = {
    "saturating exponential": _saturating,
    "saturating in checkpoints": _saturating_by_index,
    "logistic": _logistic,
    "power law": _power_law,
}

_PROCESSES: dict[str, Maker] = {
    "white noise": _white,
    "random walk": _random_walk,
    "random walk in steps": _random_walk_in_steps,
    "integrated random walk": _integrated_walk,
    "AR(1), 0.7": _autoregressive(0.7),
    "integrated AR(1), 0.5": _integrated_autoregressive,
    "saturating + random walk": _saturating_with_walk,
}


def _unit_range(curve: Maker, steps_T: Series, rng: np.random.Generator) -> Series:
    """Draw a curve scaled to the range [0, 1], so that noise sizes mean the same everywhere."""
    values_T = curve(steps_T, rng)
    return (values_T - values_T.min()) / np.ptp(values_T)


def _with_noise(curve: Maker, size: float) -> Maker:
    return lambda steps_T, rng: _unit_range(curve, steps_T, rng) + size * _white(steps_T, rng)


def _with_mixed_noise(curve: Maker) -> Maker:
    def make(steps_T: Series, rng: np.random.Generator) -> Series:
        size = np.exp(rng.uniform(np.log(0.001), np.log(0.3)))
        return _unit_range(curve, steps_T, rng) + size * _white(steps_T, rng)

    return make


def _with_binomial_noise(curve: Maker) -> Maker:
    """Accuracy counted on 240 questions: coarse, and less noisy near 0 and 1."""
    return lambda steps_T, rng: (
        rng.binomial(240, 0.02 + 0.96 * _unit_range(curve, steps_T, rng)).astype(np.float64) / 240
    )


def _with_heavy_tails(curve: Maker) -> Maker:
    return lambda steps_T, rng: (
        _unit_range(curve, steps_T, rng) + 0.03 * rng.standard_t(3, len(steps_T))
    )


def _with_autocorrelated_noise(curve: Maker) -> Maker:
    noise = _autoregressive(0.7)
    return lambda steps_T, rng: _unit_range(curve, steps_T, rng) + 0.03 * noise(steps_T, rng)


def _with_shrinking_noise(curve: Maker) -> Maker:
    """Noise that falls to a twentieth over the run, at the same pace in both series."""

    def make(steps_T: Series, rng: np.random.Generator) -> Series:
        scale_T = 0.1 * np.exp(-3 * np.linspace(0, 1, len(steps_T)))
        return _unit_range(curve, steps_T, rng) + scale_T * _white(steps_T, rng)

    return make


def _any_family(steps_T: Series, rng: np.random.Generator) -> Series:
    """Draw each series from a family and noise of its own."""
    makers = [make for family, _, make in _null_settings() if family in (*_CURVES, *_PROCESSES)]
    return makers[rng.integers(len(makers))](steps_T, rng)


def _sharing(
    steps_T: Series, rng: np.random.Generator, walks: bool, shared: float
) -> tuple[Series, Series]:
    x_T = _white(steps_T, rng)
    y_T = shared * x_T + np.sqrt(1 - shared**2) * _white(steps_T, rng)
    if walks:
        x_T, y_T = np.cumsum(x_T), np.cumsum(y_T)
    curves = [_unit_range(_saturating, steps_T, rng) for _ in range(2)]
    return curves[0] + 0.05 * x_T, curves[1] + 0.05 * y_T
