"""What a study would cost, told before it runs: from real plans, a real hub, a finished study."""

import io
import json
import subprocess
import sys

import pytest
import yaml
from rich.console import Console
from transformers import OlmoeConfig

from flows.costs import print_costs
from flows.study import plan_study
from models.flops import Texts, forward_flops, tuning_flops
from models.shape import model_shape
from store import artifacts
from studies.load import load_study
from studies.spec import Benchmark
from tasks.costs.amounts import Amount, Known
from tasks.costs.gpus import GPUS, REFERENCE
from tasks.costs.study import Cost, Costs, study_costs
from tasks.costs.weights import Revisions
from tasks.costs.work import DOCUMENTS, TOKENS_PER_DOCUMENT, Estimates
from tests import little
from tests.flows.test_cli import grokpath

REPOSITORY = "allenai/OLMoE-1B-7B-0924"
REVISIONS = ("step5000-tokens20B", "step10000-tokens41B", "step20000-tokens83B")
SHARD_BYTES = 50_000
STUDY = {
    "name": "tiny",
    "series": [
        {
            "name": "main",
            "source": {"kind": "hub", "repository": REPOSITORY, "revisions": list(REVISIONS)},
        }
    ],
    "domains": [
        {
            "name": "math",
            "probes": {"kind": "jsonl", "path": "probes.jsonl", "limit": 20},
            "tuning": {
                "kind": "jsonl",
                "path": "tuning.jsonl",
                "answer_field": "answer",
                "limit": 10,
            },
            "benchmarks": [{"name": "arc_easy", "metric": "acc", "limit": 50}],
        }
    ],
    "routing": {"max_length": 32, "dtype": "bfloat16", "max_tokens": 100, "kernel_samples": 8},
    "tuning": {"rank": 4, "epochs": 2, "max_length": 64, "dtype": "bfloat16"},
    "ablation": {"tuning_ranks": [0, 8]},
    "contamination": {"removed_share": 0},
}


@pytest.fixture(scope="module")
def config():
    return OlmoeConfig(
        vocab_size=100,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_experts=6,
        num_experts_per_tok=2,
    )


@pytest.fixture
def published(hub, root, config):
    """Three revisions on the hub, whose weights nobody will look into."""
    for number, revision in enumerate(REVISIONS):
        shard = bytes([number]) * SHARD_BYTES
        files = {
            "config.json": json.dumps({**config.to_dict(), "model_type": "olmoe"}).encode(),
            "tokenizer.json": b"{}",
            "model.safetensors": shard,
        }
        hub.add_revision("model", REPOSITORY, revision, files)
    return hub


@pytest.fixture
def study(tmp_path):
    for name in ("probes", "tuning"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a b c", "answer": "d"}\n')
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    return load_study(path)


def costs_of(study, gpu=None):
    made = study_costs(study, plan_study(study), gpu)
    return made, {cost.step_name: cost for cost in made.steps}


def printed(costs, width=120):
    text = io.StringIO()
    print_costs(costs, Console(file=text, width=width))
    return text.getvalue()


def test_a_study_of_a_hub_is_told_before_anything_is_downloaded(published, study, config):
    made, costs = costs_of(study, REFERENCE)
    shape = model_shape(config)
    probes, tuned = Texts.alike(20, 32), Texts.alike(10, 64).times(2)
    assert costs["routing"].tokens == Amount(3 * 20 * 32, Known.at_most)
    assert costs["routing"].flops == Amount(3 * forward_flops(shape, probes), Known.at_most)
    flops = sum(
        tuning_flops(shape, tuned, shape.num_adapted(study.tuning.targets, rank)) for rank in (4, 8)
    )
    assert costs["tuning"].flops == Amount(3 * flops, Known.at_most)
    assert costs["benchmarks"].tokens == Amount(9 * 50 * TOKENS_PER_DOCUMENT, Known.about)
    assert costs["contamination"].flops == Amount(0)
    assert not published.asked(match="model.safetensors")
    assert any(REFERENCE in note for note in made.notes)


def test_downloads_are_about_as_large_as_the_first_until_revisions_are_resolved(published, study):
    made, costs = costs_of(study)
    sizes = [costs[name].download.value for name in ("routing", "tuning", "benchmarks")]
    assert sizes == [pytest.approx(3 * SHARD_BYTES, rel=0.01), 0, 0]
    assert costs["routing"].download.known is Known.about
    assert made.weights == Amount(3 * SHARD_BYTES, Known.about)


def test_downloads_are_exact_once_resolved_and_nothing_once_here(published, study):
    from hub.download import bring
    from hub.repositories import RevisionFiles
    from tasks.hub import pin_revision

    for entry in plan_study(study).entries:
        if entry.step_name == "revision":
            pinned = pin_revision.run(**entry.inputs)
            found = RevisionFiles.model_validate_json((pinned.path / "revision.json").read_text())
    missing = 3 * SHARD_BYTES + 2  # and a tokenizer of two bytes
    assert costs_of(study)[1]["routing"].download == Amount(missing)
    bring(found.repository, found.commit, found.files)
    assert costs_of(study)[1]["routing"].download == Amount(2 * SHARD_BYTES)


def test_weights_on_disk_stay_within_the_budget(published, study):
    small = study.model_copy(
        update={"runtime": study.runtime.model_copy(update={"disk_budget": 60_000})}
    )
    assert costs_of(small)[0].weights.value == 60_000


def test_hours_follow_from_the_peak_of_the_gpu(published, study):
    seconds = {gpu: costs_of(study, gpu)[1]["routing"].gpu_seconds.value for gpu in ("H200", "L4")}
    peaks = {gpu: GPUS[gpu].bfloat16 for gpu in seconds}
    assert seconds["L4"] / seconds["H200"] == pytest.approx(peaks["H200"] / peaks["L4"])


def test_a_hub_that_cannot_be_asked_leaves_operations_out(hub, root, study, monkeypatch):
    monkeypatch.setattr("tasks.costs.weights.ANSWER_SECONDS", 0.5)
    hub.fault("/api/models/*", times=None, status=503)
    made, costs = costs_of(study)
    assert costs["routing"].flops is None
    assert costs["routing"].tokens == Amount(3 * 20 * 32, Known.at_most)
    assert any("operations of series main are left out" in note for note in made.notes)
    assert any("downloads are left out" in note for note in made.notes)
    hub.clear()


def test_a_benchmark_without_a_limit_is_assumed_and_said(published, study):
    domain = study.domains[0]
    whole = domain.model_copy(update={"benchmarks": (Benchmark(name="arc_easy"),)})
    made, costs = costs_of(study.model_copy(update={"domains": (whole,)}))
    assert costs["benchmarks"].tokens.value == 9 * DOCUMENTS * TOKENS_PER_DOCUMENT
    assert any(f"{DOCUMENTS:,} documents" in note for note in made.notes)


def test_a_nano_study_tells_no_gpu_time(root, smoke):
    made, costs = costs_of(smoke, "H200")
    assert costs["routing"].flops.value > 0
    assert made.altogether().gpu_seconds is None
    assert "GPU" not in printed(made)


def test_the_tables_fit_narrow_and_wide_terminals_and_a_pipe(published, study):
    made, _ = costs_of(study)
    for width in (80, 120):
        lines = printed(made, width).splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in printed(made, width)
    header = printed(made, width=10_000).splitlines()[0].split()
    assert header[0] == "step"
    assert header[-5:] == ["tokens", "FLOPs", "time", "download", "disk"]


def test_amounts_have_units():
    text = printed(
        Costs(
            [
                Cost(
                    "routing",
                    2,
                    1,
                    tokens=Amount(1.2345e12),
                    flops=Amount(3.4e18, Known.at_most),
                    gpu_seconds=Amount(7200, Known.about),
                    cpu_seconds=Amount(90),
                    download=Amount(999_999),
                    disk=Amount(12),
                )
            ],
            weights=Amount(5.1e9, Known.at_most),
            notes=["[assumed]"],
        )
    )
    for told in ("1.23 T", "≤3.4e18", "~2 GPU h + 1.5 min", "1 MB", "12 B", "≤5.1 GB", "[assumed]"):
        assert told in text


def test_a_finished_study_costs_nothing(finished, smoke, monkeypatch):
    monkeypatch.setenv("GROKPATH_ROOT", str(finished))
    made, costs = costs_of(smoke)
    for cost in costs.values():
        assert cost.num_runs == cost.num_reused
        assert cost.tokens == cost.flops == cost.disk == Amount(0)
    assert "nothing to do" in printed(made)
    assert made.notes == []


def test_a_finished_study_is_told_without_torch(finished, tmp_path):
    code = (
        "import sys; from flows.cli import app; "
        f"app(['--root', {str(finished)!r}, 'plan', 'smoke'], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to do" in done.stdout


def test_routing_tensors_are_as_large_as_foretold(finished, smoke, monkeypatch):
    monkeypatch.setenv("GROKPATH_ROOT", str(finished))
    plan = plan_study(smoke)
    estimates = Estimates(smoke, plan, Revisions())
    for entry in plan.entries:
        if entry.step_name == "routing" and entry.checkpoint.series != "dense":
            real = artifacts.read_record(entry.artifact.path)["num_bytes"]
            assert real <= estimates.work(entry).num_bytes.value * 1.05
            assert real >= estimates.work(entry).num_bytes.value * 0.9


def test_time_is_that_of_earlier_runs(copied, smoke):
    plan = plan_study(smoke)
    routing = [entry for entry in plan.entries if entry.step_name == "routing"]
    seconds = {}
    for entry in routing:
        if entry.checkpoint.series == "main":
            record = artifacts.read_record(entry.artifact.path)
            seconds[entry.artifact.path] = record["seconds"]
    removed = next(iter(seconds))
    artifacts.discard(removed)
    made, costs = costs_of(smoke)
    shuffled = [
        artifacts.read_record(entry.artifact.path)["seconds"]
        for entry in routing
        if entry.checkpoint.series == "shuffled"
    ]
    others = [*shuffled, *(value for path, value in seconds.items() if path != removed)]
    assert costs["routing"].cpu_seconds.value == pytest.approx(sum(others) / len(others))
    assert any("earlier runs" in note for note in made.notes)


def test_plan_prints_costs_and_kinds_of_gpu(tmp_path):
    done = grokpath("plan", "smoke", cwd=tmp_path)
    assert done.returncode == 0
    assert "FLOPs" in done.stdout
    kinds = grokpath("plan", "smoke", "--gpu", "list", cwd=tmp_path)
    assert kinds.returncode == 0
    assert "H200" in kinds.stdout
    wrong = grokpath("plan", "smoke", "--gpu", "H20", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "H200" in wrong.stderr


@pytest.fixture
def little_study(tmp_path):
    """A study over two local checkpoints, to be spoilt."""
    return little.write_study(tmp_path / "mine")


def test_plan_knows_a_model_that_no_family_reads(little_study, tmp_path):
    for config in little_study.parent.glob("checkpoints/*/config.json"):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "gpt2"}))
    done = grokpath("plan", str(little_study), cwd=tmp_path, root=tmp_path / "data")
    assert done.returncode == 2
    assert "cannot run: series main: no family reads models of type 'gpt2'" in done.stderr


def test_plan_knows_samples_without_the_text_field(little_study, tmp_path):
    little.write_lines(little_study.parent / "math.jsonl", [{"body": "no text"}] * 4)
    done = grokpath("plan", str(little_study), cwd=tmp_path, root=tmp_path / "data")
    assert done.returncode == 2
    assert "cannot run: " in done.stderr
    assert "math.jsonl, line 1" in done.stderr
    assert "'text'" in done.stderr


def test_without_a_card_no_seconds_of_a_card_are_told(little_study, root):
    study = load_study(str(little_study))
    made, costs = costs_of(study)
    assert made.obstacles == []
    assert costs["routing"].gpu_seconds is None
    assert costs["routing"].cpu_seconds is None
    assert any("there is no card here and no earlier run" in note for note in made.notes)
    assert costs_of(study, "H100")[1]["routing"].gpu_seconds.value > 0


def test_time_of_another_size_is_scaled_from_earlier_runs_here(copied, little_study):
    made, costs = costs_of(load_study(str(little_study)))
    assert costs["routing"].cpu_seconds.value > 0
    assert costs["routing"].gpu_seconds is None
    assert any("scaled by parameters and tokens" in note for note in made.notes)
