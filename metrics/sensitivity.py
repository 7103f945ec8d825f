"""The monitors' relation to accuracy under other settings than the study's own.

A relation that holds at one threshold, unit or sample of pairs alone is an accident of that choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from metrics.correlations import correlate
from metrics.curves import accuracy_onset, moving_average

NUM_PERMUTATIONS = 999
TUNING_MONITORS = ("pathway_distance", "pathway_consistency_median")
NUM_BOOTSTRAP = 100
LOSS_WINDOWS = (1, 3, 5)
SMOOTHNESS = {
    "pathway_consistency_median": "ratio, median",
    "pathway_consistency_mean": "ratio, mean",
    "layer_cosine": "plain cosine",
    "layer_cosine_centred": "plain cosine, centred routers",
}
ONE_TUNING = "not available, because the study scores each checkpoint in one way alone"


@dataclass(frozen=True)
class Trial:
    """One setting tried for one series and domain; curve and accuracy by step."""

    setting: str
    value: str
    """What is varied, and how it was set."""
    monitor: str
    curve: pd.Series
    accuracy: pd.Series
    is_default: bool
    """Whether it is the study's own setting."""
    note: str | None = None
    """Why there is no curve, or None."""


def sensitivity_rows(
    series: str,
    domain: str,
    trials: Iterable[Trial],
    *,
    seed: int,
    baseline: float | None = None,
) -> list[dict[str, Any]]:
    """Rows of the table `sensitivity`: every trial over all checkpoints and after the onset.

    `baseline` is the largest accuracy of a control, above which the onset lies (None without one).
    """
    rows = []
    for trial in trials:
        accuracy = trial.accuracy.dropna().sort_index()
        onset = accuracy_onset(accuracy.to_numpy(), baseline) if len(accuracy) else 0
        for window, used in (("all", accuracy), ("after_onset", accuracy.iloc[onset:])):
            both = pd.concat([trial.curve, used], axis=1, join="inner", keys=["x", "y"]).dropna()
            both = both.sort_index()
            place = {
                "series": series,
                "domain": domain,
                "setting": trial.setting,
                "value": trial.value,
                "monitor": trial.monitor,
                "window": window,
                "num_checkpoints": len(both),
                "is_default": trial.is_default,
            }
            if trial.note is not None:
                empty = {"pearson": None, "spearman": None, "difference_p": None}
                rows.append({**place, **empty, "note": trial.note})
                continue
            found = correlate(
                both["x"].to_numpy(),
                both["y"].to_numpy(),
                both.index.to_numpy(),
                seed=seed,
                num_permutations=NUM_PERMUTATIONS,
                num_bootstrap=NUM_BOOTSTRAP,
            )
            notes = (found.note, found.difference_note)  # the same where there is no number at all
            rows.append(
                {
                    **place,
                    "pearson": found.pearson,
                    "spearman": found.spearman,
                    "difference_p": found.difference_p,
                    "note": "; ".join(filter(None, dict.fromkeys(notes))) or None,
                }
            )
    return rows


def distance_trials(
    variants: pd.DataFrame, own: pd.Series, accuracy: pd.Series, *, threshold: float, seed: int
) -> list[Trial]:
    """Trials of threshold, unit and normalisation, and sample of pairs, of one series and domain.

    `variants` holds rows of `distance_variants` with their step; `own` is the study's own curve of
    the pathway distance, over all the pairs that the study takes.
    """

    def curve(**which: Any) -> pd.Series:
        found = variants
        for column, value in which.items():
            found = found[found[column] == value]
        return found.set_index("step")["value"].sort_index()

    plain: dict[str, Any] = {"unit": "character", "normalized": False, "pair_seed": seed}
    trials = [
        Trial(
            "threshold",
            f"{one:g}",
            "pathway_distance",
            curve(threshold=one, **plain),
            accuracy,
            one == threshold,
        )
        for one in sorted(variants["threshold"].unique())
    ]
    trials += [
        Trial(
            "unit and normalisation",
            f"{unit}, {'length-normalised' if normalized else 'raw'}",
            "pathway_distance",
            curve(threshold=threshold, unit=unit, normalized=normalized, pair_seed=seed),
            accuracy,
            unit == "character" and not normalized,
        )
        for unit in ("character", "expert")
        for normalized in (False, True)
    ]
    samples = {
        f"sample {pair_seed}": {**plain, "pair_seed": pair_seed} for pair_seed in (seed, seed + 1)
    }
    trials += [
        Trial(
            "pairs", name, "pathway_distance", curve(threshold=threshold, **which), accuracy, False
        )
        for name, which in samples.items()
    ]
    return [*trials, Trial("pairs", "the study's own", "pathway_distance", own, accuracy, True)]


def curve_trials(
    curves: dict[str, pd.Series], accuracy: pd.Series, scores: pd.DataFrame, window: int
) -> list[Trial]:
    """Trials of the form of consistency, the documents that count, and the moving average.

    `scores` are the benchmark's clean scores by step, columns `value`, `value_unmarked`,
    `num_removed`.
    """
    trials = [
        Trial("consistency", form, monitor, curves[monitor], accuracy, monitor.endswith("median"))
        for monitor, form in SMOOTHNESS.items()
        if monitor in curves
    ]
    if "pathway_distance" in curves:
        distance = curves["pathway_distance"]
        left_out = bool(scores["num_removed"].any())
        own = "without the marked" if left_out else "all"
        trials.append(Trial("documents", own, "pathway_distance", distance, accuracy, True))
        if not left_out and not scores["value_unmarked"].equals(scores["value"]):
            trials.append(
                Trial(
                    "documents",
                    "without the marked",
                    "pathway_distance",
                    distance,
                    scores["value_unmarked"].dropna(),
                    False,
                )
            )
    loss = curves.get("training_loss")
    if loss is not None and len(loss):
        ordered = loss.sort_index()
        trials += [
            Trial(
                "moving average of the loss",
                f"{width} checkpoints",
                "training_loss",
                pd.Series(moving_average(ordered.to_numpy(), width), index=ordered.index),
                accuracy,
                width == window,
            )
            for width in LOSS_WINDOWS
        ]
    return trials


def tuning_trials(
    curves: dict[str, pd.Series],
    own_rank: int,
    accuracy: pd.Series,
    others: dict[int, pd.Series],
) -> list[Trial]:
    """Trials of the tuning before the benchmarks: other LoRA ranks, or none at all (rank 0).

    `others` holds accuracy by step for each rank beside the study's own.
    """

    def named(rank: int) -> str:
        return f"LoRA rank {rank}" if rank else "none"

    trials = []
    for monitor in TUNING_MONITORS:
        if monitor not in curves:
            continue
        curve = curves[monitor]
        trials.append(Trial("tuning", named(own_rank), monitor, curve, accuracy, True))
        trials += [
            Trial("tuning", named(rank), monitor, curve, other, False)
            for rank, other in others.items()
        ]
        if not others:
            trials.append(Trial("tuning", "any other", monitor, curve, accuracy, False, ONE_TUNING))
    return trials
