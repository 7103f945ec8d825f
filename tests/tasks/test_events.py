"""Events of a study: announced once, by a real Prefect server's own count."""

import time

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.run import study_flow
from store import state
from studies.load import load_study
from tasks.events import MEANTIME, MEASURED, OUTLIER, PLATEAU, TURNED, announce, happenings
from tests.little import write_checkpoint, write_study


def stored(study, deadline=60):
    """Events of a study in the server's store, once what is on its way has arrived."""
    wanted = {"filter": {"resource": {"id": [f"grokpath.study.{study}"]}}, "limit": 50}
    found, until = None, time.monotonic() + deadline
    while time.monotonic() < until:
        with get_client(sync_client=True) as client:
            now = client.request("POST", "/events/filter", json=wanted).json()["events"]
        if now and found == now:
            return now
        found = now
        time.sleep(1)
    return found or []


@flow
def announce_again(study):
    return announce(load_study(study))


def test_a_checkpoint_is_announced_once_whatever_happens_to_the_record(
    prefect_server, root, tmp_path, monkeypatch
):
    file = write_study(tmp_path, (0, 10), name="announced")
    with monkeypatch.context() as meantime:
        meantime.setenv(MEANTIME, "1")
        study_flow(str(file))
        assert announce_again(str(file)) == 0
    assert announce_again(str(file)) >= 2  # what a server for the meantime did not get
    assert announce_again(str(file)) == 0
    measured = [event for event in stored("announced") if event["event"] == MEASURED]
    assert sorted(event["resource"]["grokpath.step"] for event in measured) == ["0", "10"]
    assert all("training_loss" in event["payload"]["values"]["math"] for event in measured)
    roles = {one["prefect.resource.role"] for one in measured[0]["related"]}
    assert roles == {"flow", "flow-run"}

    state.path().unlink()
    assert announce_again(str(file)) >= 2  # announced again, with the same ids
    again = [event for event in stored("announced") if event["event"] == MEASURED]
    assert [event["id"] for event in again] == [event["id"] for event in measured]

    write_checkpoint(tmp_path / "checkpoints", 20)
    study_flow(str(file))
    later = {event["resource"]["grokpath.step"] for event in stored_at_least("announced", 3)}
    assert later == {"0", "10", "20"}
    assert len(state.announced("announced")) >= 3


def stored_at_least(study, num, deadline=60):
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        found = [event for event in stored(study) if event["event"] == MEASURED]
        if len(found) >= num:
            return found
    raise AssertionError(f"only {len(found)} events of {study}")


@pytest.fixture
def curves(tmp_path):
    """A warehouse whose loss falls, is flat, and has one checkpoint that stands out."""
    from store.schemas import conform
    from store.warehouse import build

    losses = [5.0, 4.1, 3.3, 2.4, 1.9, 1.2, 0.9, 0.7, 0.4, 0.5, 4.0, 0.4, 0.41, 0.4]
    calls = ["too early"] * 12 + ["turned"] * 2
    base = {"series": "main", "domain": "math"}
    places = list(enumerate(losses))
    tables = {
        "curves": [
            {**base, "step": at, "monitor": "training_loss", "value": loss} for at, loss in places
        ],
        "online": [
            {**base, "monitor": monitor, "step": at, "call": call}
            for monitor in ("loss_flat", "pathway_distance")
            for at, call in enumerate(calls)
        ],
        "checkpoints": [
            {
                **{"series": "main", "step": at, "tokens_seen": None, "repository": None},
                **{"revision": f"step{at}", "digest": f"{at:04d}" * 16, "family": "olmoe"},
                **{"num_layers": 2, "num_experts": 8, "top_k": 2, "num_parameters": 1},
            }
            for at, _ in places
        ],
    }
    file = tmp_path / "warehouse.duckdb"
    build({name: conform(name, rows) for name, rows in tables.items()}, file)
    return file


def test_the_events_of_a_warehouse(curves):
    found = happenings(curves, "mine")
    by_kind = {kind: [one for one in found if one["event"] == kind] for kind in
               (MEASURED, PLATEAU, TURNED, OUTLIER)}  # fmt: skip
    assert len(by_kind[MEASURED]) == 14
    (plateau,) = by_kind[PLATEAU]
    assert (plateau["payload"]["step"], plateau["payload"]["value"]) == (12, 0.41)
    (turned,) = by_kind[TURNED]
    assert turned["resource"]["grokpath.monitor"] == "pathway_distance"
    (outlier,) = by_kind[OUTLIER]
    assert (outlier["payload"]["step"], outlier["payload"]["value"]) == (10, 4.0)
    assert len({one["key"] for one in found}) == len(found)
