"""The experiment with frozen routers (arXiv 2506.21551, App. C.4) as a flow of its own."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.execution import executing
from flows.runner import task_runner
from studies.frozen_router import FrozenRouterSpec
from studies.settings import Runtime
from tasks.frozen_router import run_frozen_routers

DEFAULTS = FrozenRouterSpec()


@flow(name="frozen-router", task_runner=task_runner())
def frozen_router_flow(
    num_routers: Annotated[int, Field(ge=4)] = DEFAULTS.num_routers,
    num_experts: Annotated[int, Field(ge=2)] = DEFAULTS.num_experts,
    num_dimensions: Annotated[int, Field(ge=2)] = DEFAULTS.num_dimensions,
    num_samples: Annotated[int, Field(ge=8)] = DEFAULTS.num_samples,
    expert_width: Annotated[int, Field(ge=1)] = DEFAULTS.expert_width,
    router_scale: Annotated[float, Field(gt=0.0)] = DEFAULTS.router_scale,
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = DEFAULTS.threshold,
    num_steps: Annotated[int, Field(ge=1)] = DEFAULTS.num_steps,
    ridge: Annotated[float, Field(gt=0.0)] = DEFAULTS.ridge,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = DEFAULTS.seed,
) -> dict[str, Any]:
    """Run the experiment, or find it done; returns where it is and what came out.

    Args:
        num_routers: Random routers per variant, at least 4; ten seconds for 60.
        num_experts: Experts behind each router.
        num_dimensions: Dimensions of an input.
        num_samples: Samples, training and validation together.
        expert_width: Hidden ReLU units of an expert.
        router_scale: Largest standard deviation of the router logits.
        threshold: Cumulative routing weight that a pathway keeps, above 0 and at most 1.
        num_steps: Full-batch training steps.
        ridge: lambda of the effective dimension.
        seed: Seed of the data; router r has this + 1 + r.
    """
    spec = FrozenRouterSpec(
        num_routers=num_routers,
        num_experts=num_experts,
        num_dimensions=num_dimensions,
        num_samples=num_samples,
        expert_width=expert_width,
        router_scale=router_scale,
        threshold=threshold,
        num_steps=num_steps,
        ridge=ridge,
        seed=seed,
    )
    with executing() as execution:
        (artifact,) = execution.artifacts_of([run_frozen_routers(spec=spec, runtime=Runtime())])
    assert artifact is not None
    return {"path": str(artifact.path), **artifact.summary}
