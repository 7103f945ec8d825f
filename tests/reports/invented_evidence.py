"""Single rows of evidence, invented: what the tests of the sentences judge."""

from typing import Any

from reports.evidence import APART, WINDOW, Evidence
from reports.figures import Names

NAMES = Names(
    domains={"math": "Math", "code": "Code"},
    series={"main": "main", "shuffled": "shuffled"},
    roles={"main": "main", "shuffled": "control"},
)
RISEN = {("main", "math"), ("main", "code")}
CONTROLS = {"main": ["shuffled"]}


def monitor(name: str = "distance", direction: int = -1, family: str = "paper") -> dict[str, Any]:
    return {
        "monitor": name,
        "title": name,
        "expected_direction": direction,
        "family": family,
    }


def row_of(
    domain: str = "math",
    *,
    rho: float | None = -0.7,
    p: float | None = 0.001,
    holm: float | None = 0.01,
    window: str = WINDOW,
    series: str = "main",
    name: str = "distance",
    num_checkpoints: int = 20,
    smallest_p: float | None = 0.001,
    lag: int | None = 0,
) -> dict[str, Any]:
    return {
        "series": series,
        "domain": domain,
        "monitor": name,
        "window": window,
        "num_checkpoints": num_checkpoints,
        "difference_spearman": rho,
        "difference_lag": lag,
        "difference_p": p,
        "holm_p": holm,
        "difference_smallest_p": smallest_p,
    }


def compared(domain: str = "math", verdict: str = APART, name: str = "distance") -> dict[str, Any]:
    return {
        "domain": domain,
        "monitor": name,
        "main_series": "main",
        "control_series": "shuffled",
        "verdict": verdict,
    }


def evidence(
    correlations: list[dict[str, Any]],
    separation: list[dict[str, Any]] | None = None,
    *,
    monitors: list[dict[str, Any]] | None = None,
    risen: set[tuple[str, str]] = RISEN,
    names: Names = NAMES,
    power: list[dict[str, Any]] | None = None,
) -> Evidence:
    return Evidence(
        monitors or [monitor()],
        correlations,
        separation or [],
        risen,
        names,
        0.05,
        power or [],
        CONTROLS,
    )
