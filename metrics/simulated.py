"""Simulated series for the calibration: pairs that share nothing, their noise, or their movement.

A sampler takes the steps of the checkpoints and a random generator. Nothing here reads real data.

Shapes: T checkpoints.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]
Sampler = Callable[[Series, np.random.Generator], Series]
PairSampler = Callable[[Series, np.random.Generator], tuple[Series, Series]]

SAME_PERIOD = "the same period"
"""The family that the promise leaves out: what swings alike looks like what moves together."""


def null_settings() -> Iterator[tuple[str, str, PairSampler]]:
    """Yield (family, noise, sampler of a pair) for every setting in which nothing is related."""
    for family, noise, draw in _independent_settings():
        yield family, noise, _pair_of(draw)
    yield from _SHARED_SETTINGS


def _independent_settings() -> Iterator[tuple[str, str, Sampler]]:
    """Yield (family, noise, sampler of one series): two series that share nothing at all."""
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
    yield "two different families", "any", any_family


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


def _autoregressive(coefficient: float) -> Sampler:
    def draw(steps_T: Series, rng: np.random.Generator) -> Series:
        values_T = _white(steps_T, rng)
        values_T[0] /= np.sqrt(1 - coefficient**2)  # start in the stationary distribution
        for index in range(1, len(values_T)):
            values_T[index] += coefficient * values_T[index - 1]
        return values_T

    return draw


def _integrated_autoregressive(steps_T: Series, rng: np.random.Generator) -> Series:
    return np.cumsum(_autoregressive(0.5)(steps_T, rng))


def _saturating_with_walk(steps_T: Series, rng: np.random.Generator) -> Series:
    size = 0.1 * np.exp(rng.uniform(-2, 2)) / len(steps_T)
    return _saturating(steps_T, rng) + size * _random_walk(steps_T, rng)


_CURVES: dict[str, Sampler] = {
    "saturating exponential": _saturating,
    "saturating in checkpoints": _saturating_by_index,
    "logistic": _logistic,
    "power law": _power_law,
}

_PROCESSES: dict[str, Sampler] = {
    "white noise": _white,
    "random walk": _random_walk,
    "random walk in steps": _random_walk_in_steps,
    "integrated random walk": _integrated_walk,
    "AR(1), 0.7": _autoregressive(0.7),
    "integrated AR(1), 0.5": _integrated_autoregressive,
    "saturating + random walk": _saturating_with_walk,
}


def _unit_range(curve: Sampler, steps_T: Series, rng: np.random.Generator) -> Series:
    """Draw a curve scaled to the range [0, 1], so that noise sizes mean the same everywhere."""
    values_T = curve(steps_T, rng)
    return (values_T - values_T.min()) / np.ptp(values_T)


def _with_noise(curve: Sampler, size: float) -> Sampler:
    return lambda steps_T, rng: _unit_range(curve, steps_T, rng) + size * _white(steps_T, rng)


def _with_mixed_noise(curve: Sampler) -> Sampler:
    def draw(steps_T: Series, rng: np.random.Generator) -> Series:
        size = np.exp(rng.uniform(np.log(0.001), np.log(0.3)))
        return _unit_range(curve, steps_T, rng) + size * _white(steps_T, rng)

    return draw


def _with_binomial_noise(curve: Sampler) -> Sampler:
    """Accuracy counted on 240 questions: coarse, and less noisy near 0 and 1."""
    return lambda steps_T, rng: (
        rng.binomial(240, 0.02 + 0.96 * _unit_range(curve, steps_T, rng)).astype(np.float64) / 240
    )


def _with_heavy_tails(curve: Sampler) -> Sampler:
    return lambda steps_T, rng: (
        _unit_range(curve, steps_T, rng) + 0.03 * rng.standard_t(3, len(steps_T))
    )


def _with_autocorrelated_noise(curve: Sampler) -> Sampler:
    noise = _autoregressive(0.7)
    return lambda steps_T, rng: _unit_range(curve, steps_T, rng) + 0.03 * noise(steps_T, rng)


def _with_shrinking_noise(curve: Sampler) -> Sampler:
    """Noise that falls to a twentieth over the run, at the same pace in both series."""

    def draw(steps_T: Series, rng: np.random.Generator) -> Series:
        scale_T = 0.1 * np.exp(-3 * np.linspace(0, 1, len(steps_T)))
        return _unit_range(curve, steps_T, rng) + scale_T * _white(steps_T, rng)

    return draw


def any_family(steps_T: Series, rng: np.random.Generator) -> Series:
    """Draw each series from a family and noise of its own."""
    samplers = [
        draw for family, _, draw in _independent_settings() if family in (*_CURVES, *_PROCESSES)
    ]
    return samplers[rng.integers(len(samplers))](steps_T, rng)


def sharing(
    steps_T: Series,
    rng: np.random.Generator,
    *,
    walks: bool,
    shared: float,
    lead: int = 0,
    size: float = 0.05,
) -> tuple[Series, Series]:
    """Draw two saturating curves with fluctuations whose innovations correlate at `shared`.

    The first series has them `lead` checkpoints before the second (after it, where negative).
    """
    num = len(steps_T)
    common = rng.normal(size=num + abs(lead))
    x_T, y_T = common[max(lead, 0) :][:num], common[max(-lead, 0) :][:num]
    y_T = shared * y_T + np.sqrt(1 - shared**2) * _white(steps_T, rng)
    if walks:
        x_T, y_T = np.cumsum(x_T), np.cumsum(y_T)
    curves = [_unit_range(_saturating, steps_T, rng) for _ in range(2)]
    return curves[0] + size * x_T, curves[1] + size * y_T


def unrelated_recipe(
    curve_name: str, steps_T: Series, rng: np.random.Generator, *, size: float, num: int
) -> list[tuple[Series, Series]]:
    """Draw `num` trainings of a recipe: the same two curves in all, and noise of their own."""
    monitor_T, accuracy_T = (_unit_range(_CURVES[curve_name], steps_T, rng) for _ in range(2))
    return [
        (
            monitor_T + size * _white(steps_T, rng),
            accuracy_T + size * _white(steps_T, rng),
        )
        for _ in range(num)
    ]


def counted(
    steps_T: Series, rng: np.random.Generator, *, size: float, num_documents: int
) -> tuple[Series, Series]:
    """Draw a perfect monitor and accuracy: the true accuracy, and what documents show of it.

    The true accuracy saturates between 0.1 and 0.9 and wobbles by `size` of that range. Documents
    are drawn anew at each checkpoint; the same ones, as in benchmarks, leave less noise.
    """
    trend_T = 0.1 + 0.8 * _unit_range(_saturating, steps_T, rng)
    true_T = np.clip(trend_T + 0.8 * size * rng.normal(size=len(trend_T)), 0, 1)
    return true_T, rng.binomial(num_documents, true_T) / num_documents


def _pair_of(draw: Sampler) -> PairSampler:
    return lambda steps_T, rng: (draw(steps_T, rng), draw(steps_T, rng))


def _shared_rise(size: float) -> PairSampler:
    """Both rise at about the same time and are noisiest while they do, each with its own noise."""

    def draw(steps_T: Series, rng: np.random.Generator) -> tuple[Series, Series]:
        index_T = np.linspace(0, 1, len(steps_T))
        centre, width = rng.uniform(0.2, 0.8), np.exp(rng.uniform(np.log(0.04), np.log(0.15)))

        def rise(centre: float, width: float) -> Series:
            return 1 / (1 + np.exp(-(index_T - centre) / width))

        risen_T = rise(centre, width)
        scale_T = size * (0.1 + 3.6 * risen_T * (1 - risen_T))
        first, second = (
            rise(centre + 0.03 * rng.normal(), width * np.exp(0.2 * rng.normal()))
            + scale_T * _white(steps_T, rng)
            for _ in range(2)
        )
        return first, second

    return draw


def _shared_noise_scale(scale_of: Sampler) -> PairSampler:
    """Two saturating curves of their own, with independent noise of one size at each checkpoint."""

    def draw(steps_T: Series, rng: np.random.Generator) -> tuple[Series, Series]:
        scale_T = scale_of(steps_T, rng)
        first, second = (
            _unit_range(_saturating, steps_T, rng) + scale_T * _white(steps_T, rng)
            for _ in range(2)
        )
        return first, second

    return draw


def _volatility(coefficient: float) -> Sampler:
    """Noise whose logarithm is an AR(1) of variance one, 5 % of the range at its median."""
    walk = _autoregressive(coefficient)
    spread = np.sqrt(1 - coefficient**2)
    return lambda steps_T, rng: 0.05 * np.exp(spread * walk(steps_T, rng))


def _burst(steps_T: Series, rng: np.random.Generator) -> Series:
    """Noise of 2 % of the range, five times that during a sixth of the run."""
    num = len(steps_T)
    length = max(3, num // 6)
    start = rng.integers(0, num - length)
    scale_T = np.full(num, 0.02)
    scale_T[start : start + length] = 0.1
    return scale_T


def _kink(size: float, share: float) -> PairSampler:
    """At one checkpoint both bend upwards and their noise falls to `share` of its size."""

    def draw(steps_T: Series, rng: np.random.Generator) -> tuple[Series, Series]:
        index_T = np.linspace(0, 1, len(steps_T))
        at = rng.uniform(0.3, 0.7)
        scale_T = size * np.where(index_T < at, 1.0, share)
        bend_T = 1 - np.exp(-np.maximum(index_T - at, 0) / 0.1)
        first, second = (
            _unit_range(_saturating, steps_T, rng)
            + rng.uniform(0.05, 0.3) * bend_T
            + scale_T * _white(steps_T, rng)
            for _ in range(2)
        )
        return first, second

    return draw


def _same_period(steps_T: Series, rng: np.random.Generator) -> tuple[Series, Series]:
    """Both swing with one period of 2.5 to 4.5 checkpoints, each with a phase of its own."""
    period, index_T = rng.uniform(2.5, 4.5), np.arange(len(steps_T))
    first, second = (
        _unit_range(_saturating, steps_T, rng)
        + 0.05 * np.sin(2 * np.pi * (index_T / period + rng.uniform()))
        + 0.02 * _white(steps_T, rng)
        for _ in range(2)
    )
    return first, second


_SHARED_SETTINGS: tuple[tuple[str, str, PairSampler], ...] = (
    ("noise during a shared rise", "0.05", _shared_rise(0.05)),
    ("noise during a shared rise", "0.1", _shared_rise(0.1)),
    ("shared volatility", "independent", _shared_noise_scale(_volatility(0.0))),
    ("shared volatility", "AR(1), 0.7", _shared_noise_scale(_volatility(0.7))),
    ("shared volatility", "AR(1), 0.9", _shared_noise_scale(_volatility(0.9))),
    ("shared burst of noise", "0.02 to 0.1", _shared_noise_scale(_burst)),
    ("shared kink, falling noise", "0.05 to 0.01", _kink(0.05, 0.2)),
    ("shared kink, falling noise", "0.1 to 0.01", _kink(0.1, 0.1)),
    (SAME_PERIOD, "0.02", _same_period),
)

SHARED_FAMILIES = tuple(dict.fromkeys(family for family, _, _ in _SHARED_SETTINGS))
"""Families in which both series are noisy, bend or swing at the same time, unrelated otherwise."""
