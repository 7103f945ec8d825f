"""Prefect events of a study, on which automations can act.

`grokpath.checkpoint.measured`, once per checkpoint that is in the warehouse;
`grokpath.memorization.plateau`, once per series and domain whose training loss looks flat;
`grokpath.monitor.turned`, once per series, domain and monitor that has moved since then;
`grokpath.checkpoint.outlier`, once per checkpoint, domain and curve that stands out.

All of it is read from the delivered warehouse, after a study ran or was found up to date. What was
announced is recorded (:mod:`store.state`) after the server has accepted the events, so a crash in
between announces them again, with the same ids, and the server stores an event of one id once. A
server that lives no longer than the command gets none: no automation could act on it there, and a
later run with a lasting server announces them.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import httpx

from store import artifacts, state
from store.locks import locked
from studies.spec import Study
from tasks.publish import WAREHOUSE, delivered

logger = logging.getLogger("prefect.grokpath")

MEASURED = "grokpath.checkpoint.measured"
PLATEAU = "grokpath.memorization.plateau"
TURNED = "grokpath.monitor.turned"
OUTLIER = "grokpath.checkpoint.outlier"
MEANTIME = "GROKPATH_SERVER_FOR_THE_MEANTIME"
"""Set where the Prefect server ends with the command."""
WATCHED_FOR_OUTLIERS = ("training_loss", "pathway_distance", "pathway_consistency_median")
EVENTS_PER_CALL = 100
NAMES = UUID("5f0d3f2e-7a53-4c56-9f0e-3a6d1c0b9e11")
"""Namespace of the ids of our events."""

CURVES = (
    "select series, domain, step, monitor, value from curves where value is not null "
    "order by series, domain, monitor, step"
)
FIRST_CALLS = (
    "select series, domain, monitor, min(step) as step from online where call = 'turned' "
    "group by series, domain, monitor order by series, domain, monitor"
)


def announce(study: Study) -> int:
    """Send what is new in a study's warehouse, inside a flow run; how many events that were.

    A server that does not accept them fails no study: the next run announces them.
    """
    if os.environ.get(MEANTIME):
        return 0
    try:
        return _announce(study)
    except httpx.HTTPError as error:
        logger.warning(
            "the Prefect server accepted no events (%s); the next run announces them", error
        )
        return 0


def _announce(study: Study) -> int:
    warehouse = delivered(study.name, WAREHOUSE).resolve()
    with locked(f"events-{study.name}"):
        known = state.announced(study.name)
        if warehouse.parent.name in known:
            return 0
        new = [one for one in happenings(warehouse, study.name) if one["key"] not in known]
        for start in range(0, len(new), EVENTS_PER_CALL):
            _send(new[start : start + EVENTS_PER_CALL])
        state.set_announced(study.name, [warehouse.parent.name, *(one["key"] for one in new)])
    return len(new)


def happenings(warehouse: Path, study_name: str) -> list[dict[str, Any]]:
    """All events of a warehouse, each with the key by which it is announced once."""
    from store.warehouse import query

    rows = query(warehouse, CURVES).to_pylist()
    curves: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for row in rows:
        place = row["series"], row["domain"], row["monitor"]
        curves.setdefault(place, []).append((row["step"], row["value"]))
    checkpoints = query(
        warehouse, "select series, step, tokens_seen, revision, digest from checkpoints"
    ).to_pylist()
    found = [
        *_measured(checkpoints, rows),
        *_called(query(warehouse, FIRST_CALLS).to_pylist(), curves),
        *_outlying(curves, {(row["series"], row["step"]): row["digest"] for row in checkpoints}),
    ]
    return [_event(study_name, *one) for one in found]


def _measured(
    checkpoints: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    shown = (*WATCHED_FOR_OUTLIERS, "validation_loss", "accuracy")
    at: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
    for curve in rows:
        if curve["monitor"] in shown:
            domains = at.setdefault((curve["series"], curve["step"]), {})
            domains.setdefault(curve["domain"], {})[curve["monitor"]] = curve["value"]
    for row in checkpoints:
        values = at.get((row["series"], row["step"]), {})
        labels = {"series": row["series"], "step": row["step"], "revision": row["revision"]}
        yield MEASURED, row["digest"], labels, {**row, "values": values}


def _called(
    calls: list[dict[str, Any]], curves: dict[tuple[str, str, str], list[tuple[int, float]]]
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    for row in calls:
        flat = row["monitor"] == "loss_flat"
        monitor = "training_loss" if flat else row["monitor"]
        value = dict(curves.get((row["series"], row["domain"], monitor), ())).get(row["step"])
        labels = {name: row[name] for name in ("series", "domain", "step")}
        if not flat:
            labels["monitor"] = monitor
        yield PLATEAU if flat else TURNED, "", labels, {"monitor": monitor, "value": value}


def _outlying(
    curves: dict[tuple[str, str, str], list[tuple[int, float]]], digests: dict[Any, str]
) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    import numpy as np

    from metrics.curves import outliers

    for (series, domain, monitor), curve in curves.items():
        if monitor not in WATCHED_FOR_OUTLIERS:
            continue
        values = np.array([value for _, value in curve])
        for at in np.flatnonzero(outliers(values)):
            step, value = curve[at]
            labels = {"series": series, "domain": domain, "step": step, "monitor": monitor}
            payload = {"value": value, "before": float(values[at - 1])}
            yield OUTLIER, digests.get((series, step), ""), labels, payload


def _event(
    study_name: str, kind: str, digest: str, labels: dict[str, Any], payload: dict[str, Any]
) -> dict[str, Any]:
    """One event; where there is one per case, its step is no part of the key."""
    named = {name: str(value) for name, value in labels.items()}
    once = {name: value for name, value in named.items() if name not in ("step", "revision")}
    key = "/".join([kind, study_name, *once.values(), *([digest[:16]] if digest else [])])
    resource = {
        "prefect.resource.id": f"grokpath.study.{study_name}",
        "prefect.resource.name": study_name,
        **{f"grokpath.{name}": value for name, value in named.items()},
    }
    return {"key": key, "event": kind, "resource": resource, "payload": {**payload, **labels}}


def _send(happened: list[dict[str, Any]]) -> None:
    """Send events to the Prefect server; returns when it has accepted them."""
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.events import Event

    related = _related()
    sender = related[0].get("prefect.resource.name", "") if related else ""
    events = [
        Event(
            id=uuid5(NAMES, f"{artifacts.root()}/{one['key']}"),
            event=one["event"],
            resource={**one["resource"], "grokpath.flow": sender},
            related=related,
            payload=one["payload"],
        ).model_dump(mode="json")
        for one in happened
    ]
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=events).raise_for_status()


def _related() -> list[dict[str, str]]:
    """The flow, its run and its deployment, by which automations know where it comes from."""
    from prefect.runtime import deployment, flow_run

    named = [
        ("flow", flow_run.flow_name, f"grokpath.flow.{flow_run.flow_name}"),
        ("flow-run", flow_run.name, f"prefect.flow-run.{flow_run.id}"),
        ("deployment", deployment.name, f"prefect.deployment.{deployment.id}"),
    ]
    return [
        {"prefect.resource.id": id, "prefect.resource.role": role, "prefect.resource.name": name}
        for role, name, id in named
        if name
    ]
