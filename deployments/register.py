"""What a Prefect server has to know of us: work pools, limits, deployments, automations.

Created where it is missing. A pool, a limit, a schedule's or an automation's switch that someone
has changed by hand stays as it is, and so does a schedule that someone has added; the rest of
deployments and automations follows the files.
"""

import argparse
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[1]
PREFECT_FILE = "deployments/prefect.yaml"
TAG = "grokpath"
"""Of each deployment in the file."""
DESCRIPTIONS = {
    "cpu": "Runs that need no card, on machines with a worker of this pool.",
    "gpu": "Runs for machines with a card; a body that computes on one waits for a free card.",
}


def main() -> None:
    """Register everything with the server at PREFECT_API_URL; may be repeated."""
    from prefect.client.orchestration import get_client

    parser = argparse.ArgumentParser(prog="python -m deployments.register", description=__doc__)
    parser.add_argument("--cards", type=int, default=0, help="number of graphics cards")
    num_cards = max(1, parser.parse_args().cards)
    with get_client(sync_client=True) as client:
        create_pools(client, {"cpu": max(1, (os.cpu_count() or 1) // 2), "gpu": num_cards})
        create_limit(client, "gpu", num_cards)  # of bodies on a card (tasks.devices)
        deploy(client)
        for file in sorted((CHECKOUT / "deployments" / "automations").glob("*.yaml")):
            update_automation(client, yaml.safe_load(file.read_text(encoding="utf-8")))


def create_pools(client: Any, limits: dict[str, int]) -> None:
    """Work pools of processes, unless there are some of these names."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    for name, limit in limits.items():
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(
                WorkPoolCreate(
                    name=name,
                    type="process",
                    description=DESCRIPTIONS[name],
                    base_job_template=ProcessWorker.get_default_base_job_template(),
                    concurrency_limit=limit,
                )
            )


def create_limit(client: Any, name: str, limit: int) -> None:
    """A global concurrency limit, unless there is one of that name."""
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists

    with suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=limit))


def deploy(client: Any) -> None:
    """All deployments of prefect.yaml, with the schedules that were changed or added by hand.

    Prefect sets the switches of schedules to those of the file, and deletes what was added.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    before = {one.id: one.schedules for one in _deployments(client)}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        [*command, "--prefect-file", PREFECT_FILE],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"prefect deploy failed:\n{done.stdout}{done.stderr}")
    for deployment in _deployments(client):
        now = {one.slug or one.id: one for one in deployment.schedules}
        for schedule in before.get(deployment.id, ()):
            found = now.get(schedule.slug or schedule.id)
            if found is not None and found.active != schedule.active:
                client.update_deployment_schedule(deployment.id, found.id, active=schedule.active)
            elif found is None and not schedule.slug:  # not of the file
                fields = ("schedule", "active", "max_scheduled_runs", "parameters")
                again = {name: getattr(schedule, name) for name in fields}
                client.create_deployment_schedules(
                    deployment.id, [DeploymentScheduleCreate(**again)]
                )


def update_automation(client: Any, content: dict[str, Any]) -> None:
    """Create an automation, or update the one of its name, whose switch stays."""
    from prefect.events.schemas.automations import AutomationCore

    wanted = AutomationCore.model_validate(content)
    found = client.read_automations_by_name(wanted.name)
    if found:
        update = wanted.model_copy(update={"enabled": found[0].enabled})
        client.update_automation(found[0].id, update)
    else:
        client.create_automation(wanted)


def _deployments(client: Any) -> list[Any]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found: list[Any] = client.read_deployments(deployment_filter=ours, limit=200)
    return found


if __name__ == "__main__":
    main()
