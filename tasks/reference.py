"""What the product says of itself: the registry of measures, and how often its verdict is wrong."""

from collections.abc import Iterator
from typing import Any


def measures_markdown() -> str:
    """The page docs/measures.md."""
    from metrics.registry import markdown

    return markdown()


def measures_rows() -> list[dict[str, Any]]:
    """Every measure, as a row of the table `monitors`."""
    from metrics.registry import monitor_rows

    return monitor_rows()


def grids() -> list[str]:
    """Names of the checkpoint grids that a calibration can take."""
    from metrics.calibration import GRIDS

    return list(GRIDS)


def calibration(grid: str, num_simulations: int, seed: int) -> Iterator[dict[str, Any]]:
    """False-positive rates and power of three tests on simulated series, setting by setting.

    The series go through the very code that judges a study (:mod:`metrics.calibration`). `series`
    says what they have to do with each other: `independent` trends, trends that are
    `noisy at the same time` or swing with `the same period`, where every rejection is a false
    alarm, and series that share their fluctuations (`related`), where every rejection is right.
    """
    from metrics.calibration import (
        calibrate,
        difference_p_value,
        naive_p_value,
        power,
        verdict_p_value,
    )
    from metrics.simulated import SAME_PERIOD, SHARED_FAMILIES

    kinds = dict.fromkeys(SHARED_FAMILIES, "noisy at the same time") | {SAME_PERIOD: SAME_PERIOD}
    tests = {
        "permutation of Pearson r": naive_p_value,
        "permutation of first differences": difference_p_value,
        "verdict test": verdict_p_value,
    }
    how = {"num_simulations": num_simulations, "seed": seed, "grids": [grid]}
    for name, test in tests.items():
        for row in calibrate(test, **how):  # type: ignore[arg-type]
            yield {"test": name, "series": kinds.get(row.family, "independent"), **vars(row)}
        for row in power(test, **how):  # type: ignore[arg-type]
            yield {"test": name, "series": "related", **vars(row)}
