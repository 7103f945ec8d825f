"""What a Prefect server has to know of us: work pools, limits, deployments, automations.

Made where it is missing. A pool, a limit, a schedule's or an automation's switch that someone has
changed by hand stays as it is, and so does a schedule that someone has added; the rest of
deployments and automations follows the files.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[1]
PREFECT_FILE = CHECKOUT / "deployments" / "prefect.yaml"
AUTOMATIONS = CHECKOUT / "deployments" / "automations"
GPU_LIMIT = "gpu"
"""The global concurrency limit that bodies on a card take part in (:mod:`tasks.devices`)."""

DESCRIPTIONS = {
    "cpu": "Runs that need no card, on machines with a worker of this pool.",
    "gpu": "Runs for machines with a card; a body that computes on one waits for a free card.",
}
_MADE_BY_THE_SERVER = {"id", "created", "updated", "enabled"}


def main() -> None:
    """Register everything with the server at PREFECT_API_URL."""
    parser = argparse.ArgumentParser(prog="python -m deployments.register", description=__doc__)
    parser.add_argument("--cards", type=int, default=0, help="number of graphics cards")
    register(parser.parse_args().cards)


def register(num_cards: int) -> None:
    """Register everything; may be repeated."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        pools = {"cpu": max(1, (os.cpu_count() or 1) // 2), "gpu": max(1, num_cards)}
        for name, limit in pools.items():
            make_pool(client, name, limit)
        make_limit(client, GPU_LIMIT, max(1, num_cards))
        before, by_hand = switches(client), schedules_by_hand(client)
        deploy()
        restore_switches(client, before)
        restore_schedules(client, by_hand)
        for file in sorted(AUTOMATIONS.glob("*.yaml")):
            for content in automations_in(file):
                make_automation(client, content, file)


def make_pool(client: Any, name: str, limit: int) -> None:
    """A work pool of processes, unless there is one of that name."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        pool = WorkPoolCreate(
            name=name,
            type="process",
            description=DESCRIPTIONS[name],
            base_job_template=ProcessWorker.get_default_base_job_template(),
            concurrency_limit=limit,
        )
        client.create_work_pool(pool)


def make_limit(client: Any, name: str, limit: int) -> None:
    """A global concurrency limit, unless there is one of that name."""
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        made = GlobalConcurrencyLimitCreate(name=name, limit=limit)
        client.create_global_concurrency_limit(made)


def deploy() -> None:
    """All deployments of prefect.yaml.

    Raises
    ------
    RuntimeError
        With what Prefect said.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        [*command, "--prefect-file", str(PREFECT_FILE.relative_to(CHECKOUT))],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"prefect deploy failed:\n{done.stdout}{done.stderr}")


def switches(client: Any) -> dict[tuple[Any, str], bool]:
    """Which schedule of which deployment is on."""
    return {
        (deployment.id, schedule.slug): schedule.active
        for deployment in _deployments(client)
        for schedule in deployment.schedules
        if schedule.slug
    }


def restore_switches(client: Any, before: dict[tuple[Any, str], bool]) -> None:
    """Turn schedules on and off again as they were before they were deployed anew."""
    for deployment in _deployments(client):
        for schedule in deployment.schedules:
            wanted = before.get((deployment.id, schedule.slug), schedule.active)
            if wanted != schedule.active:
                client.update_deployment_schedule(deployment.id, schedule.id, active=wanted)


def schedules_by_hand(client: Any) -> dict[Any, list[Any]]:
    """What was added to deployments on Prefect's page: those have no slug, those of the file do."""
    return {
        deployment.id: [schedule for schedule in deployment.schedules if not schedule.slug]
        for deployment in _deployments(client)
    }


def restore_schedules(client: Any, by_hand: dict[Any, list[Any]]) -> None:
    """Make them again: Prefect replaces all schedules of a deployment that has one without slug."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    left = {one.id for schedules in schedules_by_hand(client).values() for one in schedules}
    for deployment_id, schedules in by_hand.items():
        fields = ("schedule", "active", "max_scheduled_runs", "parameters")
        lost = [
            DeploymentScheduleCreate(**{name: getattr(one, name) for name in fields})
            for one in schedules
            if one.id not in left
        ]
        if lost:
            client.create_deployment_schedules(deployment_id, lost)


def automations_in(file: Path) -> list[dict[str, Any]]:
    """The automations of a file, in any form that `prefect automation create` takes."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = content.get("automations", [content])
    return list(content)


def make_automation(client: Any, content: dict[str, Any], file: Path) -> None:
    """Create an automation, or bring the one of its name up to date.

    Raises
    ------
    ValueError
        Naming the file, when Prefect does not understand it.
    """
    from prefect.events.schemas.automations import AutomationCore
    from pydantic import ValidationError

    try:
        wanted = AutomationCore.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{file} is not an automation that Prefect understands: {error}") from None
    found = client.read_automations_by_name(wanted.name)
    if not found:
        client.create_automation(wanted)
    elif _substance(found[0]) != _substance(wanted):
        update = wanted.model_copy(update={"enabled": found[0].enabled})
        client.update_automation(found[0].id, update)


def _substance(automation: Any) -> Any:
    """An automation without what the server adds to it, and without its switch."""
    return _without_made(automation.model_dump(mode="json", exclude_none=True))


def _without_made(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in _MADE_BY_THE_SERVER}
        return {name: _without_made(one) for name, one in kept.items()}
    return [_without_made(one) for one in value] if isinstance(value, list) else value


def _deployments(client: Any) -> list[Any]:
    found: list[Any] = []
    while page := client.read_deployments(limit=200, offset=len(found)):
        found += page
    return found


if __name__ == "__main__":
    main()
