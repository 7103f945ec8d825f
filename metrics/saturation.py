"""How early routing takes its final form (router saturation, OLMoE, arXiv 2409.02060, sec. 5).

Shapes: T tokens, L MoE layers, A experts chosen per token.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrics.measure import Measure


def choice_overlap(
    one_TLA: NDArray[np.integer], other_TLA: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Mean share [L] of a token's chosen experts that two checkpoints have in common, 0 to 1.

    Parameters
    ----------
    one_TLA, other_TLA : arrays of shape (T, L, A)
        Chosen experts of the same tokens at two checkpoints, in any order within a token.

    Raises
    ------
    ValueError
        If the shapes differ: the checkpoints saw other tokens or have other layers.

    Notes
    -----
    |E_t and E_T| / k of arXiv 2409.02060, which takes the last checkpoint for T. Random choice
    gives k / K.

    Examples
    --------
    >>> choice_overlap(np.array([[[0, 1]]]), np.array([[[1, 2]]])).tolist()
    [0.5]
    """
    if one_TLA.shape != other_TLA.shape:
        raise ValueError(
            f"chosen experts of shape {one_TLA.shape} and {other_TLA.shape} cannot be compared; "
            "the checkpoints of a series must be measured on the same tokens and have the same "
            "layers"
        )
    common_TLA = (one_TLA[..., :, None] == other_TLA[..., None, :]).any(axis=-1)
    share_L: NDArray[np.float64] = common_TLA.mean(axis=(0, 2))
    return share_L


def saturation_speed(overlap: float, step: int, previous_step: int) -> float:
    """Share of the choices that changed since the previous checkpoint, per unit of log(1 + step).

    Ours: saturation against the last checkpoint needs the future; this needs only the past, and
    log steps make unevenly spaced checkpoints comparable. 0 where nothing changes, no upper bound.

    >>> round(saturation_speed(0.8, 100, 50), 3)
    0.293
    """
    if step <= previous_step:
        raise ValueError(f"step {step} does not come after {previous_step}; steps must rise")
    return float((1 - overlap) / (np.log1p(step) - np.log1p(previous_step)))


def saturation_rows(
    domain: str, steps: Sequence[int], chosen: Sequence[NDArray[np.integer]], num_experts: int
) -> list[dict[str, Any]]:
    """Rows of `routing_measures` with their step: saturation by layer and mean, and its speed.

    Parameters
    ----------
    domain
        Name of the domain.
    steps
        Optimizer steps of the checkpoints, rising.
    chosen
        Chosen experts [T, L, A] of the same tokens at each checkpoint.
    num_experts
        K.
    """
    num_tokens, _, top_k = chosen[0].shape
    rows: list[dict[str, Any]] = []

    def add(
        step: int, layer: int | None, measure: str, value: float, baseline: float | None
    ) -> None:
        rows.append(
            {
                "step": step,
                "domain": domain,
                "layer": layer,
                "measure": measure,
                "value": value,
                "baseline": baseline,
                "baseline_kind": None if baseline is None else "experts chosen at random",
                "num_tokens": num_tokens,
                "note": None,
            }
        )

    for at, step in enumerate(steps):
        for measure, width in (("saturation_top_k", top_k), ("saturation_top_1", 1)):
            overlap_L = choice_overlap(chosen[at][..., :width], chosen[-1][..., :width])
            add(step, None, measure, float(overlap_L.mean()), width / num_experts)
            for layer, value in enumerate(overlap_L):
                add(step, layer, measure, float(value), width / num_experts)
        if at > 0:
            overlap = float(choice_overlap(chosen[at - 1], chosen[at]).mean())
            add(
                step, None, "saturation_speed", saturation_speed(overlap, step, steps[at - 1]), None
            )
    return rows


MEASURES = (
    Measure(
        "saturation_top_k",
        "router saturation, top-k",
        "share",
        0.0,
        1.0,
        0,
        "field",
        "arXiv 2409.02060, sec. 5 (router saturation)",
        "share of a token's top-k experts that the last checkpoint chooses too; mean of layers; "
        "no monitor, as it needs the last checkpoint and reaches 1 there by construction",
        monitored=False,
    ),
    Measure(
        "saturation_top_1",
        "router saturation, top-1",
        "share",
        0.0,
        1.0,
        0,
        "field",
        "arXiv 2409.02060, sec. 5 (router saturation)",
        "the same with the first expert alone",
        monitored=False,
    ),
    Measure(
        "saturation_speed",
        "change of routing since the previous checkpoint",
        "share per log step",
        0.0,
        None,
        -1,
        "candidate",
        "ours, after arXiv 2409.02060; needs no future checkpoint",
        "(1 - overlap of top-k experts with the previous checkpoint) / difference of log(1 + step)",
    ),
)
