"""Routing: every probe sample through one checkpoint."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from store.tensors import RoutingTensors, load_routing, save_routing
from studies.settings import RoutingSpec, Runtime
from tasks.step import step
from tasks.workers import report

ROUTER_WEIGHTS = "router_weights.npy"


def _is_whole(path: Path) -> bool:
    """Whether an earlier attempt left this file, readable."""
    try:
        load_routing(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    return True


@step(
    "routing",
    version=1,
    run_name="routing {checkpoint.series} {checkpoint.revision}",
    resumable=True,
)
def extract_routing(
    out: Path, *, checkpoint: Checkpoint, probes: Artifact, routing: RoutingSpec, runtime: Runtime
) -> dict[str, Any]:
    """Forward every sample through the checkpoint; keep routing weights and losses.

    Writes <domain>.<split>.npz (:class:`store.tensors.RoutingTensors`) and router_weights.npy
    [L, K, D] float32. Loads the model once. Costs about half a second per nano checkpoint. A killed
    attempt goes on with the domains it lacks. The self-check of the routing runs before anything
    is written (:func:`models.extraction.extract`).
    """
    from models.extraction import extract, load_checkpoint, router_weights
    from models.families.registry import describe

    model, family, device = load_checkpoint(checkpoint.path, runtime.device, routing.dtype)
    samples = pq.read_table(probes.path / "probes.parquet")
    groups = sorted(
        set(zip(samples["domain"].to_pylist(), samples["split"].to_pylist(), strict=True))
    )
    expected = {f"{domain}.{split}.npz" for domain, split in groups}
    for leftover in out.iterdir():
        if leftover.name not in expected:
            leftover.unlink()
    mean_losses: dict[str, dict[str, float]] = {}
    for number, (domain, split) in enumerate(groups):
        path = out / f"{domain}.{split}.npz"
        if not _is_whole(path):
            here = samples.filter(
                pc.and_(pc.equal(samples["domain"], domain), pc.equal(samples["split"], split))
            )
            extraction = extract(
                model,
                family,
                here["token_ids"].to_pylist(),
                here["counted"].to_pylist(),
                batch_size=runtime.batch_size,
                tokens=routing.tokens,
            )
            save_routing(
                RoutingTensors(
                    sample_ids_N=here["sample_id"].to_numpy(),
                    routing_weights_NLK=extraction.routing_weights_NLK,
                    losses_N=extraction.losses_N,
                    num_tokens_N=extraction.num_tokens_N,
                    num_counted_N=extraction.num_counted_N,
                ),
                path,
            )
        losses_N = load_routing(path).losses_N
        mean_losses.setdefault(domain, {})[split] = float(losses_N.mean())
        report(number + 1, len(groups), domain)
    np.save(out / ROUTER_WEIGHTS, router_weights(model, family))
    return {"model": describe(model, family), "mean_losses": mean_losses, "device": device}
