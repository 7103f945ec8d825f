"""The experiment with frozen routers (arXiv 2506.21551, App. C.4) as a flow of its own."""

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.series import finish
from studies.frozen_router import FrozenRouterSpec
from studies.settings import Runtime
from tasks.frozen_router import run_frozen_routers


@flow(name="frozen-router", task_runner=ThreadPoolTaskRunner(max_workers=1))
def frozen_router_flow(spec: FrozenRouterSpec | None = None) -> dict[str, Any]:
    """Run the experiment, or find it done; returns where it is and what came out."""
    future = run_frozen_routers.submit(spec=spec or FrozenRouterSpec(), runtime=Runtime())
    finish(future)
    artifact: Any = future.result()
    return {"path": str(artifact.path), **artifact.summary}
