"""What only a series shows: drift of the routing, and how the weights settle."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from store.artifacts import Artifact
from store.identity import Label
from store.tensors import load_tokens
from studies.settings import Runtime
from tasks.routing import WEIGHT_NORMS
from tasks.step import step
from tasks.workers import report


@step("drift", version=1, run_name="drift {label}")
def measure_drift(
    out: Path,
    *,
    label: Label,
    steps: list[int],
    routing: list[Artifact],
    domains: list[str],
    runtime: Runtime,
) -> dict[str, Any]:
    """Compare the experts that every two checkpoints choose for the same tokens.

    Writes drift.parquet (all pairs) and saturation.parquet (against the last, and since the one
    before; rows of `routing_measures` with their step). Costs about a second per nano series.
    """
    from metrics.dynamics import choice_overlap, saturation_rows
    from metrics.token_routing import chosen_experts
    from store.schemas import write_rows

    pairs: list[dict[str, Any]] = []
    saturation: list[dict[str, Any]] = []
    for number, domain in enumerate(domains):
        chosen: list[np.ndarray] = []
        seen: tuple[np.ndarray, ...] | None = None
        for training_step, artifact in zip(steps, routing, strict=True):
            tokens = load_tokens(artifact.path / f"{domain}.tokens.npz")
            same: tuple[np.ndarray, ...] = (
                tokens.sample_ids_T,
                tokens.positions_T,
                tokens.token_ids_T,
            )
            if seen is not None and not all(
                np.array_equal(a, b) for a, b in zip(seen, same, strict=True)
            ):
                raise ValueError(
                    f"the checkpoint of step {training_step} was measured on other tokens of "
                    f"domain {domain!r} than the first; all checkpoints of a series need one probe "
                    "set"
                )
            seen = same
            top_k = artifact.summary["model"]["top_k"]
            ids = chosen_experts(tokens.routing_weights_TLK, top_k)
            num_experts = tokens.routing_weights_TLK.shape[-1]
            if chosen and ids.shape != chosen[0].shape:
                raise ValueError(
                    f"the checkpoint of step {training_step} has {ids.shape[1]} MoE layers with "
                    f"{top_k} experts per token, the first has {chosen[0].shape[1]} with "
                    f"{chosen[0].shape[2]}; all checkpoints of a series need one shape"
                )
            chosen.append(ids.astype(np.int16))
        for a in range(len(steps)):
            for b in range(a, len(steps)):
                top_1 = choice_overlap(chosen[a][..., :1], chosen[b][..., :1]).mean()
                pairs.append(
                    {
                        "domain": domain,
                        "step_a": steps[a],
                        "step_b": steps[b],
                        "top_k_overlap": float(choice_overlap(chosen[a], chosen[b]).mean()),
                        "top_1_overlap": float(top_1),
                        "baseline": top_k / num_experts,
                    }
                )
        saturation += saturation_rows(domain, steps, chosen, num_experts)
        report(number + 1, len(domains), domain)
    write_rows("drift", pairs, out, leave_out=("series",))
    write_rows("routing_measures", saturation, out, leave_out=("series",))
    return {}


@step("router-dynamics", version=3, run_name="router dynamics {label}")
def measure_dynamics(
    out: Path, *, label: Label, steps: list[int], routing: list[Artifact], runtime: Runtime
) -> dict[str, Any]:
    """How the norms of router, expert and attention weights settle over a series.

    Writes parameter_norms.parquet and router_dynamics.parquet (arXiv 2506.21551, App. D). Costs
    milliseconds: the norms were taken when the checkpoint's weights were at hand.
    """
    from metrics.dynamics import router_dynamics
    from store.schemas import write_rows

    norms: list[dict[str, Any]] = [
        {"step": training_step, "kind": kind, **found}
        for training_step, artifact in zip(steps, routing, strict=True)
        for kind, found in json.loads((artifact.path / WEIGHT_NORMS).read_text()).items()
    ]
    rows = []
    for kind in dict.fromkeys(row["kind"] for row in norms):
        curve = [row for row in norms if row["kind"] == kind]
        found = router_dynamics(
            [row["norm"] for row in curve], np.array([row["step"] for row in curve])
        )
        rows.append({"kind": kind, **vars(found)})
    write_rows("parameter_norms", norms, out, leave_out=("series",))
    write_rows("router_dynamics", rows, out, leave_out=("series",))
    return {}
