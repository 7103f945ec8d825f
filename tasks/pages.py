"""Artifacts on the pages of runs, through the client that the run already has.

Prefect's own `create_..._artifact` make a client for every call, which costs more than the call.
"""

import json
from typing import Any
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import FlowRunContext, SyncClientContext, TaskRunContext


def on_task_run(context: TaskRunContext, **artifact: Any) -> None:
    """Attach an artifact to a task run alone: the flow run's page does not list it."""
    _attach(task_run_id=context.task_run.id, **artifact)


def on_flow_run(**artifact: Any) -> None:
    """Attach an artifact to the flow run that goes on."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    _attach(flow_run_id=context.flow_run.id, **artifact)


def as_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Type and data of a table."""
    return {"type": "table", "data": json.dumps(rows)}


def _attach(*, data: str, **fields: str | UUID) -> None:
    with SyncClientContext.get_or_create() as here:
        here.client.create_artifact(ArtifactCreate(data=data, **fields))
