"""A training run that writes while a scheduled watch looks: real server, worker and files."""

import json
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows.run import study_flow
from flows.study import plan_study
from flows.watch import watch_flow
from store import state
from store.warehouse import query
from studies.base import NothingYet
from studies.load import load_study
from studies.sources import LocalSource
from tasks.events import MEASURED
from tasks.local import discover
from tests.attempts import is_computed
from tests.little import write_checkpoint, write_study
from tests.servers import CHECKOUT, ask, prefect, prefect_at, worker_of

GUIDE = CHECKOUT / "docs" / "watch.md"
LAST = 30
SECONDS_TO_END = 480.0


def train(folder: Path, measured: Callable[[], list[int]], stop: threading.Event) -> None:
    """Write checkpoints 20 and 30 as a training run does, and things that are none.

    Each stays half-written until a watch has come by and measured those before it.
    """
    (folder / "tmp-step40").mkdir()
    broken = write_checkpoint(folder.parent / "elsewhere", 5)
    (broken / "tokenizer.json").unlink()
    shutil.copytree(broken, folder / "step5")  # and never gets further
    for before, step in (([0, 10], 20), ([0, 10, 20], LAST)):
        whole = write_checkpoint(folder.parent / "elsewhere", step)
        place = folder / whole.name
        place.mkdir()
        shutil.copy(whole / "config.json", place)
        weights = (whole / "model.safetensors").read_bytes()
        with (place / "model.safetensors").open("wb") as stream:
            for part in (weights[:100], weights[100 : len(weights) // 2]):
                stream.write(part)
                stream.flush()
            while measured() != before and not stop.wait(0.5):
                pass
            stream.write(weights[len(weights) // 2 :])
        for file in whole.glob("*token*"):
            shutil.copy(file, place)


def wait_until(found, what):
    """What `found` returns, once that is true."""
    until = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < until:
        value = found()
        if value:
            return value
        time.sleep(0.5)
    raise AssertionError(f"{what} within {SECONDS_TO_END:g} s")


def steps_in(root: Path) -> list[int]:
    """Steps in the delivered warehouse; none before there is one."""
    file = root / "little" / "warehouse.duckdb"
    if not file.exists():
        return []
    return [
        row["step"] for row in query(file, "select step from checkpoints order by 1").to_pylist()
    ]


def filtered(api, what, **wanted):
    return ask(f"{api}/{what}/filter", wanted)


def deployed(home, api, tmp_path, study):
    """The watch of prefect.yaml for this study, every few seconds; its id."""
    content = yaml.safe_load(Path("deployments/prefect.yaml").read_text())
    (watch,) = (
        one
        for one in content["deployments"]
        if one["name"] == "file" and one["entrypoint"].startswith("flows/watch.py")
    )
    watch["parameters"] = {"study": str(study)}
    watch["schedules"] = [{"slug": "often", "interval": 10, "active": True}]
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump({"name": "grokpath", "deployments": [watch]}))
    prefect(home, api, "work-pool", "create", "--type", "process", "cpu")
    prefect(home, api, "deploy", "--all", "--prefect-file", str(file))
    return filtered(api, "deployments")[0]["id"]


def measured_events(api):
    found = filtered(
        api,
        "events",
        filter={"event": {"name": [MEASURED]}, "resource": {"id": ["grokpath.study.little"]}},
        limit=50,
    )
    return sorted(int(event["resource"]["grokpath.step"]) for event in found["events"])


@pytest.mark.timeout(900)
def test_a_training_run_is_followed_and_an_automation_acts(tmp_path, root):
    study = write_study(tmp_path / "study", (0, 10))
    home, stop = tmp_path / "prefect", threading.Event()
    writer = threading.Thread(
        target=train, args=(tmp_path / "study" / "checkpoints", lambda: steps_in(root), stop)
    )
    fast = {
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    }
    with prefect_at(home, **fast) as api:
        automation = yaml.safe_load(Path("deployments/automations/watch-again.yaml").read_text())
        ask(f"{api}/automations/", {**automation, "enabled": True})
        deployment = deployed(home, api, tmp_path, study)
        with worker_of(home, api, "cpu", root, **fast):
            writer.start()
            try:
                wait_until(lambda: steps_in(root) == [0, 10, 20, LAST], "all were measured")
                wait_until(lambda: measured_events(api) == [0, 10, 20, LAST], "all were told")
                runs = wait_until(lambda: quiet(api, deployment), "a watch found nothing new")
            finally:
                stop.set()
                writer.join()
        by_automation = [
            run for run in runs if (run["created_by"] or {}).get("type") == "AUTOMATION"
        ]
    assert by_automation
    assert not [run for run in runs if run["state_type"] in ("FAILED", "CRASHED")]
    computed = Counter(row["artifact"] for row in state.attempts() if is_computed(row))
    assert set(computed.values()) == {1}, "an artifact was computed twice"
    routed = [row["run"] for row in state.attempts() if row["step"] == "routing"]
    assert {name.split()[-1] for name in routed} == {
        f"step{step}-tokens{step}K" for step in (0, 10, 20, LAST)
    }
    assert not [row for row in state.attempts() if row["error"]]


def quiet(api, deployment):
    """Every run of the deployment, once one of them ended because there was nothing new."""
    runs = filtered(api, "flow_runs", deployments={"id": {"any_": [deployment]}}, limit=200)
    return runs if any(run["state_name"] == "NothingNew" for run in runs) else None


# ---------------------------------------------------------------- without a worker


@pytest.fixture
def study(prefect_server, root, tmp_path):
    """A little study, measured once."""
    file = write_study(tmp_path, (0, 10))
    watch_flow(str(file))
    return file


def count():
    return len(state.attempts())


def test_nothing_new_touches_nothing(study, root):
    before = {path: path.stat().st_mtime_ns for path in (root / "artifacts").rglob("*")}
    state = watch_flow(str(study), return_state=True)
    assert (state.name, state.message) == ("NothingNew", "little: nothing new")
    assert {path: path.stat().st_mtime_ns for path in (root / "artifacts").rglob("*")} == before


def test_only_what_is_new_is_measured_and_what_was_deleted_meanwhile_stays(study, tmp_path, root):
    num_before = count()
    shutil.rmtree(tmp_path / "checkpoints" / "step0-tokens0K")
    ended = watch_flow(str(study), return_state=True)
    assert ended.name == "NothingNew"  # the deleted one is measured already
    write_checkpoint(tmp_path / "checkpoints", 20)
    watch_flow(str(study))
    assert steps_in(root) == [0, 10, 20]
    routed = [row["run"] for row in state.attempts()[num_before:] if row["step"] == "routing"]
    assert set(routed) == {"routing main step20-tokens20K"}

    changed = {"routing": {"max_length": 12}}  # cannot be measured on what is gone
    study_flow(str(study), changes=changed)
    assert steps_in(root) == [10, 20]


def test_a_watch_that_was_killed_before_it_delivered_is_caught_up_with(study, root):
    (root / "little" / "warehouse.duckdb").unlink()
    num_before = count()
    state = watch_flow(str(study), return_state=True)
    assert state.name == "Completed"
    assert steps_in(root) == [0, 10]
    assert count() == num_before  # delivered, nothing computed


def test_a_folder_that_is_still_empty_is_no_failure(prefect_server, root, tmp_path):
    file = write_study(tmp_path, (0, 10))
    for place in (tmp_path / "checkpoints").iterdir():
        (place / "model.safetensors").unlink()
    state = watch_flow(str(file), return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "NothingYet")
    assert "no complete checkpoint yet" in state.message


def test_a_single_checkpoint_waits_for_the_second(prefect_server, root, tmp_path):
    file = write_study(tmp_path, (0,))
    state = watch_flow(str(file), return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "NothingYet")
    assert state.message == "series main has 1 complete checkpoint by now; 2 are needed"
    assert count() == 0


def test_a_plan_and_a_run_agree_about_what_is_gone(study, tmp_path):
    shutil.rmtree(tmp_path / "checkpoints" / "step10-tokens10K")
    plan = plan_study(load_study(study))
    assert all(entry.artifact is not None for entry in plan.entries)
    assert json.dumps([entry.label for entry in plan.entries]).count("step10-tokens10K") > 0


def test_the_saving_that_the_guide_shows_is_seen_only_when_whole(tmp_path, root):
    from models.checkpoints import list_checkpoints, why_incomplete
    from tests.published import tokenizer

    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(code, names)

    class Model:
        """Looks at the folder in the middle of being saved."""

        def save_pretrained(self, draft):
            shutil.copytree(write_checkpoint(tmp_path / "elsewhere", 7), draft)
            with pytest.raises(NothingYet):
                list_checkpoints(tmp_path / "run")

    (tmp_path / "run").mkdir()
    names["save_checkpoint"](Model(), tokenizer(), tmp_path / "run", 7, 7000)
    (found,) = list_checkpoints(tmp_path / "run")
    assert (found.step, found.tokens_seen, why_incomplete(found.path)) == (7, 7000, None)


def test_what_transformers_trainer_writes_is_a_checkpoint(tmp_path, root):
    from transformers import OlmoeForCausalLM, Trainer, TrainingArguments

    from tests.published import tokenizer

    model = OlmoeForCausalLM.from_pretrained(write_checkpoint(tmp_path / "start", 1))
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=4, save_steps=2, save_total_limit=2,
        use_cpu=True, report_to=[], disable_tqdm=True, per_device_train_batch_size=1,
    )  # fmt: skip
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 4
    Trainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer()).train()
    source = LocalSource(path=tmp_path / "run", complete_marker="trainer_state.json")
    assert [one.step for one in discover("main", source, looking=True)[0]] == [2, 4]
