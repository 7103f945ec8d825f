"""Artifacts of runs, asked of the Prefect server that the tests talk to."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterTaskRunId
from prefect.client.schemas.objects import Artifact


def artifacts_of(task_run_id: UUID | str) -> dict[str, Artifact]:
    """Artifacts of one task run by type."""
    wanted = ArtifactFilter(task_run_id=ArtifactFilterTaskRunId(any_=[task_run_id]))
    found = get_client(sync_client=True).read_artifacts(artifact_filter=wanted)
    return {one.type: one for one in found}
