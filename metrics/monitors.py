"""The monitors: what is held against accuracy, what each claims, and how it is judged.

A monitor is a number per checkpoint and domain that needs no benchmark. :func:`judge` holds every
monitor against accuracy inside each series (arXiv 2506.21551, sec. 4.3); :func:`separations` asks
whether it tells the main series from a control in which nothing can generalize.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from metrics.correlations import (
    CorrelationResult,
    accuracy_onset,
    correlate,
    holm,
    moving_average,
)
from metrics.detrended import detrended_test
from metrics.separation import separate

ACCURACY = "accuracy"
PAPER = "arXiv 2506.21551"


@dataclass(frozen=True)
class Monitor:
    """One monitor; `expected_direction` is the sign of its correlation with accuracy."""

    monitor: str
    title: str
    unit: str
    expected_direction: int
    source: str
    formula: str

    def row(self) -> dict[str, Any]:
        """As a row of the table `monitors`."""
        return asdict(self)


MONITORS = (
    Monitor(
        "pathway_distance",
        "pathway distance",
        "characters",
        -1,
        f"{PAPER}, sec. 4.1",
        "mean Levenshtein distance of pathway strings over all pairs of samples",
    ),
    Monitor(
        "pathway_distance_normalized",
        "pathway distance, length-normalised",
        "share",
        -1,
        "ours, after " + PAPER,
        "the same, each distance divided by the longer of the two strings",
    ),
    Monitor(
        "pathway_distance_expert",
        "pathway distance, per expert",
        "experts",
        -1,
        f"{PAPER}, sec. 4.1 (the unit of its per-layer figure)",
        "mean Levenshtein distance with one symbol per (layer, expert)",
    ),
    Monitor(
        "pathway_distance_expert_normalized",
        "pathway distance, per expert, length-normalised",
        "share",
        -1,
        "ours, after " + PAPER,
        "the same, each distance divided by the longer of the two pathways",
    ),
    Monitor(
        "pathway_consistency_median",
        "pathway consistency, median",
        "ratio",
        1,
        f"{PAPER}, sec. 4.2 (as 1 - C_i)",
        "median over samples of mean_l cos(e_l, e_l+1) / (max_l cos(e_l, e_l+1) + 1e-8)",
    ),
    Monitor(
        "pathway_consistency_mean",
        "pathway consistency, mean",
        "ratio",
        1,
        f"{PAPER}, sec. 4.2 (as 1 - C_i)",
        "the same ratio, mean over samples; unreliable where samples are ill-conditioned",
    ),
    Monitor(
        "layer_cosine",
        "cosine of neighbouring layers",
        "cosine",
        1,
        "ours: the numerator of the paper's ratio",
        "mean over samples and layers of cos(e_l, e_l+1)",
    ),
    Monitor(
        "layer_cosine_centred",
        "cosine of neighbouring layers, centred",
        "cosine",
        1,
        "ours: unchanged when one vector is added to all rows of a router",
        "the same with each router's rows centred",
    ),
    Monitor(
        "effective_dimension",
        "effective dimension of the routing kernel",
        "dimensions",
        -1,
        f"ours, after {PAPER}, sec. 4.4 (gating kernel); sign inferred from App. C.4",
        "Tr(H (H + ridge I)^-1), H = mean over layers of the inner products of routing weights",
    ),
    Monitor(
        "pathway_length",
        "pathway length",
        "experts",
        0,
        "ours: a control for the distance",
        "mean number of experts in a pathway",
    ),
    Monitor(
        "routing_entropy",
        "routing entropy",
        "nats",
        0,
        f"{PAPER}, App. E.5",
        "entropy of the routing weights, mean over layers and samples",
    ),
    Monitor(
        "hellinger_spread",
        "Hellinger spread of routing weights",
        "squared distance",
        0,
        "ours: a distance without threshold or strings",
        "mean squared Hellinger distance over pairs of samples, mean over layers",
    ),
    Monitor(
        "routing_variance",
        "routing variance",
        "variance",
        0,
        "ours: a distance without threshold or strings",
        "variance over samples, summed over experts, mean over layers",
    ),
    Monitor(
        "training_loss",
        "training loss",
        "nats per token",
        -1,
        f"{PAPER}, sec. 4.3",
        "mean loss of the probe samples",
    ),
    Monitor(
        "training_loss_moving_average",
        "training loss, moving average",
        "nats per token",
        -1,
        f"{PAPER}, sec. 4.3",
        "mean of the training loss over the last checkpoints",
    ),
    Monitor(
        "validation_loss",
        "validation loss",
        "nats per token",
        -1,
        f"{PAPER}, sec. 4.3",
        "mean loss of held-out samples",
    ),
)


def with_moving_average(curves: pd.DataFrame, window: int) -> pd.DataFrame:
    """Add the moving-average training loss to tidy curves (columns as in :func:`judge`)."""
    losses = curves[curves["monitor"] == "training_loss"].sort_values("step")
    averaged = [
        group.assign(
            monitor="training_loss_moving_average",
            value=moving_average(group["value"].to_numpy(), window),
        )
        for _, group in losses.groupby(["series", "domain"], sort=False)
    ]
    return pd.concat([curves, *averaged], ignore_index=True)


def judge(
    curves: pd.DataFrame,
    roles: dict[str, str],
    *,
    num_permutations: int,
    num_bootstrap: int,
    significance: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `correlations`: every monitor against accuracy.

    Parameters
    ----------
    curves
        Columns series, domain, step, monitor, value; accuracy is the monitor `accuracy`.
    roles
        `main` or `control` by series.
    num_permutations, num_bootstrap, seed
        As in :func:`metrics.correlations.correlate`. Where the detrended test comes near the level,
        it is repeated with 20 times as many permutations, because Holm's correction multiplies the
        chance error of a small p-value.
    significance
        Level of the verdict, held against Holm's corrected p-value of the detrended test. The
        correction spans all monitors and domains of one series and window.
    """
    rows: list[dict[str, Any]] = []
    for series, of_series in curves.groupby("series", sort=False):
        for window in ("all", "after_onset"):
            block = []
            for domain, monitor, wide in _against_accuracy(of_series):
                used = wide.iloc[_onset(curves, roles, str(series), domain) :]
                used = (wide if window == "all" else used).dropna(subset=[monitor.monitor])
                result = _correlate(
                    used, monitor.monitor, num_permutations, num_bootstrap, significance, seed
                )
                place = {"series": series, "domain": domain, "window": window}
                block.append((place, monitor, result))
            rows += _with_verdicts(block, significance)
    return rows


def separations(curves: pd.DataFrame, roles: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of the table `separation`: every main series against every control, monitor by monitor.

    The window starts where the main series' accuracy starts its sustained rise above the controls;
    only steps that both series have are compared.
    """
    rows = []
    for main in _with_role(roles, "main"):
        for domain, monitor, wide in _against_accuracy(curves[curves["series"] == main]):
            used = wide.iloc[_onset(curves, roles, main, domain) :][[monitor.monitor]]
            for control in _with_role(roles, "control"):
                other = _curve(curves, control, domain, monitor.monitor)
                both = used.join(other.rename("control"), how="inner").dropna()
                found = separate(
                    monitor.title,
                    both[monitor.monitor].to_numpy(),
                    both["control"].to_numpy(),
                    both.index.to_numpy(),
                    monitor.expected_direction,
                )
                rows.append(
                    {
                        "domain": domain,
                        "monitor": monitor.monitor,
                        "main_series": main,
                        "control_series": control,
                        "main_change": found.main_change,
                        "control_change": found.control_change,
                        "main_moves": found.main_moves,
                        "control_moves": found.control_moves,
                        "graded": found.gap,
                        "verdict": found.verdict,
                        "sentence": found.sentence,
                    }
                )
    return rows


def _correlate(
    used: pd.DataFrame,
    monitor: str,
    num_permutations: int,
    num_bootstrap: int,
    significance: float,
    seed: int,
) -> CorrelationResult:
    series = used[monitor].to_numpy(), used[ACCURACY].to_numpy(), used.index.to_numpy()
    result = correlate(
        *series, seed=seed, num_permutations=num_permutations, num_bootstrap=num_bootstrap
    )
    if result.difference_p is None or result.difference_p > 2 * significance:
        return result
    finer = detrended_test(*series, seed=seed + 1, num_permutations=20 * num_permutations)
    return replace(result, difference_p=finer.p_value, difference_smallest_p=finer.smallest_p)


def _onset(curves: pd.DataFrame, roles: dict[str, str], series: str, domain: str) -> int:
    """Where the rise of accuracy starts; for a main series, the rise above every control."""
    accuracy = _curve(curves, series, domain, ACCURACY).dropna()
    levels = [
        _curve(curves, control, domain, ACCURACY).max()
        for control in _with_role(roles, "control")
        if roles[series] == "main"
    ]
    known = [float(level) for level in levels if not np.isnan(level)]
    return accuracy_onset(accuracy.to_numpy(), baseline=max(known, default=None))


def _with_role(roles: dict[str, str], role: str) -> list[str]:
    return [name for name, its_role in roles.items() if its_role == role]


def _against_accuracy(of_series: pd.DataFrame) -> Iterator[tuple[str, Monitor, pd.DataFrame]]:
    """Per domain with accuracy and monitor: both side by side, indexed by step in order."""
    for domain, of_domain in of_series.groupby("domain", sort=False):
        wide = of_domain.pivot_table(
            index="step", columns="monitor", values="value", dropna=False
        ).sort_index()
        if ACCURACY not in wide:
            continue
        wide = wide.dropna(subset=[ACCURACY])
        for monitor in MONITORS:
            if monitor.monitor in wide and len(wide):
                yield str(domain), monitor, wide


def _curve(curves: pd.DataFrame, series: str, domain: str, monitor: str) -> pd.Series:
    here = (
        (curves["series"] == series) & (curves["domain"] == domain) & (curves["monitor"] == monitor)
    )
    return curves[here].set_index("step")["value"].sort_index()


def _with_verdicts(
    block: list[tuple[dict[str, Any], Monitor, CorrelationResult]], significance: float
) -> list[dict[str, Any]]:
    corrected = holm([result.difference_p for _, _, result in block])
    return [
        {
            **place,
            "monitor": monitor.monitor,
            "num_checkpoints": result.num_checkpoints,
            "pearson": result.pearson,
            "pearson_low": result.pearson_low,
            "pearson_high": result.pearson_high,
            "pearson_p": result.pearson_p,
            "spearman": result.spearman,
            "smallest_p": result.smallest_p,
            "partial_pearson": result.partial_pearson,
            "linear_r2": result.linear_r2,
            "linear_mse": result.linear_mse,
            "difference_pearson": result.difference_pearson,
            "difference_spearman": result.difference_spearman,
            "difference_p": result.difference_p,
            "difference_smallest_p": result.difference_smallest_p,
            "holm_p": holm_p,
            "verdict": verdict(result, holm_p, monitor.expected_direction, significance),
            "note": "; ".join(filter(None, [result.note, result.difference_note])) or None,
        }
        for (place, monitor, result), holm_p in zip(block, corrected, strict=True)
    ]


def verdict(
    result: CorrelationResult, holm_p: float | None, expected_direction: int, significance: float
) -> str:
    """What the detrended test allows to say, in plain words."""
    if not result.available:
        return result.note or "not available"
    if result.difference_p is None or holm_p is None:
        return result.difference_note or "cannot tell"
    if result.difference_p > significance:
        return "no relation beyond the trend is shown"
    if holm_p > significance:
        return "suggestive only: does not survive the correction for all tests"
    assert result.difference_spearman is not None
    sign = np.sign(result.difference_spearman)
    if expected_direction == 0:
        return f"moves with accuracy beyond the trend ({'+' if sign > 0 else '−'})"
    if sign == expected_direction:
        return "moves with accuracy beyond the trend, in the expected direction"
    return "moves with accuracy beyond the trend, against the expected direction"
