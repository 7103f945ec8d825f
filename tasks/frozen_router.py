"""The experiment of arXiv 2506.21551, App. C.4: frozen random routers in one-layer mixtures."""

from pathlib import Path
from typing import Any

import numpy as np

from studies.frozen_router import FrozenRouterSpec
from studies.settings import Runtime
from tasks.step import step
from tasks.workers import report

SMALLEST_SCALE = 0.05
"""Of the varied scales: a router that hardly tells inputs apart."""


@step("frozen-router", version=3, run_name="frozen routers")
def run_frozen_routers(out: Path, *, spec: FrozenRouterSpec, runtime: Runtime) -> dict[str, Any]:
    """Train experts behind frozen random routers; relate effective dimension to path distance.

    Two variants: all routers of one scale, as a plain reading of the paper has it, and routers from
    nearly uniform to sharp, so that path distances spread. All kernels share one factor, the mean
    size over both variants; beside it, each is normalised. Writes frozen_router.parquet,
    frozen_router_correlations.parquet and their figure. Costs some ten seconds.
    """
    from metrics.frozen_router import correlation_rows, kernel_sizes, router_rows
    from models.frozen_router import train_frozen_routers
    from reports.frozen import draw_frozen_routers
    from store.schemas import write_rows

    scales = {
        "same_scale": np.full(spec.num_routers, spec.router_scale),
        "varied_scale": np.geomspace(
            min(SMALLEST_SCALE, spec.router_scale), spec.router_scale, spec.num_routers
        ),
    }
    trained = {}
    for number, (variant, scales_R) in enumerate(scales.items()):
        trained[variant] = train_frozen_routers(spec, scales_R)
        report(number + 1, len(scales), variant)
    sizes = [kernel_sizes(found.tangent_kernel_RSS) for found in trained.values()]
    rows: list[dict[str, Any]] = []
    for variant, found in trained.items():
        rows += router_rows(
            variant,
            scales[variant],
            found.routing_weights_RSK,
            found.tangent_kernel_RSS,
            found.training_loss_R,
            found.validation_loss_R,
            kernel_scale=float(np.mean(sizes)),
            threshold=spec.threshold,
            ridge=spec.ridge,
        )
    write_rows("frozen_router", rows, out)
    correlations = correlation_rows(rows, seed=spec.seed)
    write_rows("frozen_router_correlations", correlations, out)
    draw_frozen_routers(rows, out)
    return {"correlations": correlations}
