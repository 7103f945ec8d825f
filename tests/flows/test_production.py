"""The production study, made small by its overlay alone, against a loopback hub that misbehaves.

What is public is named as it is; contents are made by :mod:`tests.published`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.run import study_flow
from flows.study import plan_study
from store.artifacts import all_artifacts, verify
from store.warehouse import query
from studies.load import load_study
from tests.published import branch_name, publish_data, publish_model

pytestmark = pytest.mark.timeout(1500)  # five minutes alone on two cores, more beside other tests
REPOSITORY = "allenai/OLMoE-1B-7B-0924"
STEPS = (5000, 125000, 245000, 370000, 490000, 615000, 735000, 855000, 980000, 1100000)
OTHERS = (10000, 250000, 1220000)
GROKPATH = (sys.executable, "-c", "from flows.cli import main; main()")
TINY = ("run", "olmoe_1b_7b", "--overlay", "tiny")


@pytest.fixture
def published(hub, tmp_path):
    """The hub with all that the study asks for, and some revisions more."""
    commits = publish_model(hub, tmp_path / "models", REPOSITORY, (*STEPS, *OTHERS))
    publish_data(hub)
    return commits


class HighWater:
    """The most bytes of weights that lay on disk at once, looked at every few milliseconds."""

    def __init__(self, folder: Path) -> None:
        self.bytes = 0
        self._folder, self._over = folder, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            sizes = {}
            for link in self._folder.glob("models--*/snapshots/*/*.safetensors"):
                try:
                    found = link.stat()
                except FileNotFoundError:
                    continue
                sizes[found.st_ino] = found.st_size
            self.bytes = max(self.bytes, sum(sizes.values()))


def run_on_a_full_disk(root) -> str:
    """Run the study on the command line where the folder for weights is too small a disk."""
    folder = root / "hub"
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)],
        check=True,
        capture_output=True,
    )
    try:
        environment = os.environ | {"GROKPATH_ROOT": str(root)}
        run = subprocess.run([*GROKPATH, *TINY], env=environment, capture_output=True, text=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    assert run.returncode == 1, run.stdout + run.stderr
    return run.stderr


def kill_during_a_download(hub, root) -> None:
    """Start the study on the command line; end it with -9 while a shard is on its way."""
    hub.fault("safetensors", times=None, bytes_per_second=2000)
    environment = os.environ | {"GROKPATH_ROOT": str(root)}
    run = subprocess.Popen(
        [*GROKPATH, *TINY], env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        partial = "hub/models--*/blobs/*.incomplete"
        while not (hub.sent("safetensors") and any(root.glob(partial))):
            assert run.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "no download began"
            time.sleep(0.02)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    hub.faults.clear()


def responses(root, *, tuned) -> list[str]:
    """What the first checkpoint answered to every document, tuned or as it is."""
    commit = min(
        json.loads(path.read_text())["inputs"]["checkpoint"]["checkpoint"]
        for path in root.glob("artifacts/benchmarks/*/record.json")
    )
    for path in root.glob("artifacts/benchmarks/*/record.json"):
        inputs = json.loads(path.read_text())["inputs"]
        if inputs["checkpoint"]["checkpoint"] == commit and bool(inputs["adapters"]) == tuned:
            table = pq.read_table(path.parent / "benchmark_documents.parquet")
            return table["response"].to_pylist()
    raise AssertionError("the checkpoint was not scored")


def test_the_production_study_passes_whatever_the_hub_does(
    published, hub, root, prefect_server, bodies
):
    study = load_study("olmoe_1b_7b", ["tiny"])
    if os.geteuid() == 0:  # nobody else can mount a small disk
        told = run_on_a_full_disk(root)
        assert "free some space" in told
        assert "Traceback" not in told
        assert not list(root.glob("artifacts/routing/*"))
    kill_during_a_download(hub, root)
    # The branch moves after it was resolved; nothing of the new commit may be used.
    moved = branch_name(STEPS[1])
    folder = root.parent / "models" / REPOSITORY
    hub.add_revision("model", REPOSITORY, moved, folder / branch_name(OTHERS[0]))
    hub.fault("safetensors", times=1, flip=True)
    hub.fault("safetensors", times=2, cut_after=3000)
    hub.fault("/api/", times=3, status=429, retry_after="0")
    hub.fault("safetensors", times=3, status=429, retry_after="1")
    hub.fault("/resolve/", times=2, status=503)

    with HighWater(root / "hub") as water:
        paths = study_flow(study)

    def ask(sql):
        return query(Path(paths["warehouse"]), sql).to_pylist()

    checkpoints = ask("select step, repository, revision, digest from checkpoints order by step")
    assert [row["step"] for row in checkpoints] == list(STEPS)
    for row in checkpoints:
        assert row["repository"] == REPOSITORY
        assert row["digest"] == published[row["revision"]], row["revision"]
    assert water.bytes <= int(study.runtime.disk_budget)
    scores = ask("select domain, count(*) as n from benchmark_scores group by all order by all")
    assert [(row["domain"], row["n"]) for row in scores] == [
        ("chemistry", 10), ("code", 10), ("commonsense", 10), ("math", 10),
    ]  # fmt: skip
    tuned = list(root.glob("artifacts/tuning/*/record.json"))
    assert len(tuned) == 10 * 3, "commonsense and chemistry share their instructions"
    losses = ask(
        "select domain, first(loss order by tuning_step) - last(loss order by tuning_step) as fall "
        "from tuning_loss where step = 5000 group by domain"
    )
    assert len(losses) == 4
    assert all(row["fall"] > 0 for row in losses)
    assert ask("select distinct tuning_rank from ablation_scores") == [{"tuning_rank": 0}]
    settings = ask("select distinct value from sensitivity where setting = 'tuning' order by value")
    assert [row["value"] for row in settings] == ["LoRA rank 4", "none"]

    assert not [problem for folder in all_artifacts() for problem in verify(folder)]
    assert responses(root, tuned=True) != responses(root, tuned=False)

    # Again: the branch still points elsewhere, yet all is known and nothing runs or is fetched.
    bodies.clear()
    hub.requests.clear()
    assert study_flow(study)["report"] == paths["report"]
    assert not +bodies
    assert not hub.asked("safetensors")
    assert all(entry.artifact is not None for entry in plan_study(study).entries)

    offline = os.environ | {"GROKPATH_ROOT": str(root), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([*GROKPATH, *TINY], env=offline, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "0 to be run" in run.stdout

    # One revision more costs only itself.
    source = study.series[0].source.model_copy(update={"steps": (*STEPS, OTHERS[2])})
    series = study.series[0].model_copy(update={"source": source})
    study_flow(study.model_copy(update={"series": (series,)}))
    assert (bodies["routing"], bodies["tuning"], bodies["benchmarks"]) == (1, 3, 2)
    assert (bodies["probes"], bodies["instructions"], bodies["data-set"]) == (0, 0, 0)
    record = json.loads(next(root.glob("artifacts/probes/*/record.json")).read_text())
    assert "tokenizer" in record["inputs"]["tokenizer"]


def test_the_other_published_series_can_be_planned(hub, root, tmp_path):
    steps = tuple(range(5000, 65000, 5000))
    publish_model(hub, tmp_path / "models", "allenai/OLMoE-1B-7B-0125", steps)
    publish_model(hub, tmp_path / "models", REPOSITORY, steps)
    for name in ("olmoe_1b_7b_0125", "olmoe_1b_7b_zero_shot"):
        plan = plan_study(load_study(name))
        routed = [entry.checkpoint for entry in plan.entries if entry.step_name == "routing"]
        assert len(routed) == 10
        assert (routed[0].step, routed[-1].step) == (5000, 60000)
