"""Routing: every probe sample through one checkpoint."""

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from store.tensors import (
    RoutingTensors,
    TangentKernel,
    TokenRouting,
    load_routing,
    save_kernel,
    save_routing,
    save_tokens,
)
from studies.settings import RoutingSpec, Runtime
from tasks.step import step
from tasks.workers import report

if TYPE_CHECKING:
    from models.extraction import Extraction
    from models.families.base import Family

ROUTER_WEIGHTS = "router_weights.npy"
WEIGHT_NORMS = "weight_norms.json"


def _is_complete(path: Path) -> bool:
    """Whether an earlier attempt left this file, readable, and so those written before it."""
    try:
        load_routing(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    return True


@step(
    "routing",
    version=3,
    run_name="routing {checkpoint.series} {checkpoint.revision}",
    resumable=True,
    loads_model=True,
)
def extract_routing(
    out: Path, *, checkpoint: Checkpoint, probes: Artifact, routing: RoutingSpec, runtime: Runtime
) -> dict[str, Any]:
    """Forward every sample through the checkpoint; store routing weights and losses.

    Writes <domain>.<split>.npz (:class:`store.tensors.RoutingTensors`), of the probe samples also
    <domain>.tokens.npz (TokenRouting) and <domain>.tangent.npz (TangentKernel, where experts are
    gated MLPs), router_weights.npy [L, K, D] float32, and weight_norms.json (L2 norm and number of
    parameters by kind). Loads the model once. Costs about half a second per nano checkpoint. A
    killed attempt goes on with the domains it lacks. The self-check of the routing runs before
    anything is written (:func:`models.extraction.extract`).
    """
    from models.extraction import router_weights
    from models.families.registry import describe
    from models.loading import load_checkpoint
    from models.weight_norms import weight_norms

    model, family, device = load_checkpoint(
        checkpoint.path, runtime.device, routing.dtype, routing.virtual_experts
    )
    samples = pq.read_table(probes.path / "probes.parquet")
    groups = sorted(
        set(zip(samples["domain"].to_pylist(), samples["split"].to_pylist(), strict=True))
    )
    kinds = ("probe", "validation", "tokens", "tangent")
    expected = {f"{domain}.{kind}.npz" for domain, _ in groups for kind in kinds}
    for file in out.iterdir():
        if file.name not in expected:
            file.unlink()
    mean_losses: dict[str, dict[str, float]] = {}
    by_domain: dict[str, dict[str, float | int]] = {}
    for number, (domain, split) in enumerate(groups):
        if not _is_complete(out / f"{domain}.{split}.npz"):
            here = samples.filter(
                pc.and_(pc.equal(samples["domain"], domain), pc.equal(samples["split"], split))
            )
            progress = partial(_report_samples, number, len(groups), f"{domain} {split}")
            _extract_group(
                out, model, family, here, domain, split, routing, runtime.batch_size, progress
            )
        losses_N = load_routing(out / f"{domain}.{split}.npz").losses_N
        mean_losses.setdefault(domain, {})[split] = float(losses_N.mean())
        numbers = by_domain.setdefault(domain, {"samples": 0})
        numbers["samples"] += len(losses_N)
        numbers[f"{split} loss"] = float(losses_N.mean())
        report(number + 1, len(groups), domain)
    np.save(out / ROUTER_WEIGHTS, router_weights(model, family))
    norms = {kind: asdict(norm) for kind, norm in weight_norms(checkpoint.path).items()}
    (out / WEIGHT_NORMS).write_text(json.dumps(norms, indent=1), encoding="utf-8")
    return {
        "model": describe(model, family),
        "mean_losses": mean_losses,
        "device": device,
        "by_domain": by_domain,
    }


def _extract_group(
    out: Path,
    model: Any,
    family: "Family",
    samples: pa.Table,
    domain: str,
    split: str,
    routing: RoutingSpec,
    batch_size: int | Literal["auto"],
    on_progress: Callable[[int, int, str], None],
) -> None:
    """Forward the samples of one domain and split; its own file is written last."""
    from models.batches import select_tokens
    from models.extraction import extract

    token_ids, ids_N = samples["token_ids"].to_pylist(), samples["sample_id"].to_numpy()
    chosen = select_tokens(
        np.array([len(ids) for ids in token_ids]),
        routing.tokens,
        max_tokens=routing.max_tokens,
        kernel_samples=routing.kernel_samples,
    )
    extraction = extract(
        model,
        family,
        token_ids,
        samples["counted"].to_pylist(),
        batch_size=batch_size,
        tokens=routing.tokens,
        selection=chosen if split == "probe" else None,
        on_progress=on_progress,
    )
    if split == "probe":
        tokens = _token_routing(extraction, token_ids, ids_N, chosen.positions)
        save_tokens(tokens, out / f"{domain}.tokens.npz")
        kernel = _tangent(model, family, extraction, ids_N, chosen.in_kernel_N)
        if kernel is not None:
            save_kernel(kernel, out / f"{domain}.tangent.npz")
    save_routing(
        RoutingTensors(
            sample_ids_N=ids_N,
            routing_weights_NLK=extraction.routing_weights_NLK,
            losses_N=extraction.losses_N,
            num_tokens_N=extraction.num_tokens_N,
            num_counted_N=extraction.num_counted_N,
        ),
        out / f"{domain}.{split}.npz",
    )


def _report_samples(
    group: int, num_groups: int, name: str, done: int, total: int, unit: str
) -> None:
    report(group, num_groups, f"{name}, {done:,} of {total:,} {unit}")


def _token_routing(
    extraction: "Extraction",
    token_ids: list[list[int]],
    sample_ids_N: np.ndarray,
    positions: "Sequence[np.ndarray]",
) -> TokenRouting:
    """Routing of the chosen tokens with what they are and where they stand."""
    chosen = [ids[at] for ids, places in zip(token_ids, positions, strict=True) for at in places]
    return TokenRouting(
        sample_ids_T=np.repeat(sample_ids_N, [len(places) for places in positions]),
        positions_T=np.concatenate(positions).astype(np.int32),
        token_ids_T=np.array(chosen, dtype=np.int32),
        routing_weights_TLK=extraction.token_weights_QLK,
    )


def _tangent(
    model: Any,
    family: "Family",
    extraction: "Extraction",
    sample_ids_N: np.ndarray,
    in_kernel_N: np.ndarray,
) -> TangentKernel | None:
    """The kernel with its mean diagonal set to 1; None where it cannot be had."""
    from models.tangent_kernel import tangent_kernel

    if extraction.hidden_SLD is None:
        return None
    weights_SLK = extraction.routing_weights_NLK[in_kernel_N]
    kernel_NN = tangent_kernel(model, family, weights_SLK, extraction.hidden_SLD)
    scale = 0.0 if kernel_NN is None else float(kernel_NN.diagonal().mean())
    if kernel_NN is None or scale <= 0:
        return None
    return TangentKernel(
        sample_ids_N=sample_ids_N[in_kernel_N],
        kernel_NN=(kernel_NN / scale).astype(np.float32),
        scale=np.array(scale),
    )
