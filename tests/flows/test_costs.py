"""What a study would cost before it runs: from real plans, a real hub, a finished study."""

import io
import json
import re
import subprocess
import sys

import pytest
import yaml
from rich.console import Console
from transformers import OlmoeConfig

from flows.costs import print_costs
from flows.study import plan_study
from models.flops import OLMOE_1B_7B, Texts, forward_flops, tuning_flops
from models.shape import model_shape
from store import artifacts
from studies.load import load_study
from tasks.costs import DOCUMENTS, GPUS, TOKENS_PER_DOCUMENT, Cost, Costs, study_costs
from tests import little
from tests.flows.test_cli import grokpath
from tests.servers import CHECKOUT

REPOSITORY = "some/olmoe"
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
            "name": name,
            "probes": {"kind": "hub", "repository": "some/probes", "limit": 20},
            "tuning": {
                "kind": "hub",
                "repository": "some/instructions",
                "answer_field": "answer",
                "limit": 10,
            },
            "benchmarks": [{"name": "arc_easy", "metric": "acc", "limit": 50}],
        }
        for name in ("math", "code")
    ],
    "routing": {"max_length": 32, "dtype": "bfloat16", "max_tokens": 100, "kernel_samples": 8},
    "tuning": {"rank": 4, "epochs": 2, "max_length": 64, "dtype": "bfloat16"},
    "ablation": {"tuning_ranks": [0, 8]},
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
        files = {
            "config.json": json.dumps({**config.to_dict(), "model_type": "olmoe"}).encode(),
            "tokenizer.json": b"{}",
            "model.safetensors": bytes([number]) * SHARD_BYTES,
        }
        hub.add_revision("model", REPOSITORY, revision, files)
    return hub


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    return load_study(path)


def costs_of(study, gpu=None):
    found = study_costs(study, plan_study(study), gpu)
    return found, {cost.step_name: cost for cost in found.steps}


def printed(costs, width=120):
    text = io.StringIO()
    print_costs(costs, Console(file=text, width=width))
    return text.getvalue()


def test_a_study_of_a_hub_is_estimated_before_anything_is_downloaded(published, study, config):
    found, costs = costs_of(study, "A100-80GB")
    shape = model_shape(config)
    probes, tuned = Texts(20, 20 * 32), Texts(10, 10 * 64).times(2)
    assert costs["routing"].tokens == 3 * 2 * 20 * 32
    assert costs["routing"].flops == pytest.approx(3 * 2 * forward_flops(shape, probes))
    assert costs["benchmarks"].tokens == 9 * 2 * 50 * TOKENS_PER_DOCUMENT
    # Domains that are tuned on the same samples share the adapters.
    assert (costs["tuning"].num_runs, costs["tuning"].tokens) == (12, 6 * tuned.num_tokens)
    flops = sum(
        tuning_flops(shape, tuned, shape.num_adapted(study.tuning.targets, rank)) for rank in (4, 8)
    )
    assert costs["tuning"].flops == pytest.approx(3 * flops)
    assert not published.asked(match="model.safetensors")
    assert any("A100-80GB" in note for note in found.notes)
    assert found.obstacles == []


def test_downloads_are_as_large_as_the_first_until_revisions_are_resolved(published, study):
    found, costs = costs_of(study)
    sizes = [costs[name].download for name in ("routing", "tuning", "benchmarks")]
    assert sizes == [3 * SHARD_BYTES, 0, 0]
    assert found.weights == 3 * SHARD_BYTES


def test_weights_on_disk_stay_within_the_budget(published, study):
    small = study.model_copy(
        update={"runtime": study.runtime.model_copy(update={"disk_budget": 60_000})}
    )
    assert costs_of(small)[0].weights == 60_000


def test_hours_follow_from_the_peak_of_the_gpu(published, study):
    seconds = {gpu: costs_of(study, gpu)[1]["routing"].gpu_seconds for gpu in ("H200", "L4")}
    assert seconds["L4"] / seconds["H200"] == pytest.approx(
        GPUS["H200"].bfloat16 / GPUS["L4"].bfloat16
    )


def test_time_is_not_known_where_nothing_ran_and_no_gpu_is_named(published, study):
    found, costs = costs_of(study)
    assert (costs["routing"].gpu_seconds, costs["routing"].cpu_seconds) == (0, None)
    assert "routing, tuning, benchmarks: time not known" in printed(found)


def test_a_hub_that_refuses_leaves_operations_unknown(hub, root, study):
    found, costs = costs_of(study)
    assert (costs["routing"].flops, costs["routing"].download) == (None, None)
    assert costs["routing"].tokens == 3 * 2 * 20 * 32
    assert any("operations and downloads not known" in note for note in found.notes)


def test_a_benchmark_without_a_limit_has_an_assumed_number_of_documents(published, study):
    domains = [
        domain.model_copy(
            update={"benchmarks": (domain.benchmarks[0].model_copy(update={"limit": None}),)}
        )
        for domain in study.domains
    ]
    _, costs = costs_of(study.model_copy(update={"domains": tuple(domains)}))
    assert costs["benchmarks"].tokens == 9 * 2 * DOCUMENTS * TOKENS_PER_DOCUMENT


def test_the_published_model_is_estimated_without_a_hub(tmp_path):
    """At an address where nothing answers, and without waiting for it."""
    for name in ("olmoe_1b_7b", "olmoe_1b_7b_zero_shot"):
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
        done = grokpath("plan", name, "--gpu", "h100", cwd=tmp_path, env=nowhere)
        assert done.returncode == 0, done.stderr
        assert "the configuration that ships with grokpath" in done.stdout
        assert "asking again" not in done.stderr
        (routing,) = re.findall(r"routing +10 +0 +10 .*", done.stdout)
        assert "138 GB" in routing


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty root, so that nothing is reused and no earlier time counts; and no hub."""
    monkeypatch.setenv("GROKPATH_ROOT", str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("name", ["olmoe_1b_7b_zero_shot", "olmoe_1b_7b_40", "olmoe_1b_7b"])
def test_the_page_on_clusters_has_the_numbers_that_plan_prints(name):
    study = load_study(name, [CHECKOUT / "studies" / "overlays" / "all.yaml"])
    found, costs = costs_of(study, "H100")
    (together,) = (line for line in printed(found).splitlines() if line.startswith("together"))
    page = (CHECKOUT / "docs" / "cluster.md").read_text()
    (row,) = (line for line in page.splitlines() if f"(`{name}`)" in line)
    assert row.replace("|", " ").split(")")[1].split() == together.split()[4:]
    assert costs["routing"].download == 244 * 2 * OLMOE_1B_7B.num_parameters


def test_a_nano_study_has_no_gpu_time(root, smoke):
    found, costs = costs_of(smoke, "H200")
    assert costs["routing"].flops > 0
    assert costs["pretraining"].flops > 0
    assert found.together.gpu_seconds == 0
    assert "GPU " not in printed(found)


def test_the_tables_fit_narrow_and_wide_terminals_and_a_pipe(published, study):
    found, _ = costs_of(study)
    for width in (80, 120):
        lines = printed(found, width).splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in printed(found, width)
    header = printed(found, width=10_000).splitlines()[0].split()
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
                    tokens=1.2345e12,
                    flops=3.4e18,
                    gpu_seconds=7200,
                    cpu_seconds=90,
                    download=999_999,
                    disk=12,
                ),
                Cost("tuning", 1, 0, flops=None),
            ],
            weights=5.1e9,
            notes=["[assumed]"],
        )
    )
    for shown in ("1.23 T", "3.4e18", "2 GPU h + 1.5 min", "1 MB", "12 B", "5.1 GB", "[assumed]"):
        assert shown in text
    assert "?" in next(line for line in text.splitlines() if line.startswith("tuning"))


def test_a_finished_study_costs_nothing(finished, smoke, monkeypatch):
    monkeypatch.setenv("GROKPATH_ROOT", str(finished))
    found, costs = costs_of(smoke)
    for cost in costs.values():
        assert cost.num_runs == cost.num_reused
        assert cost.tokens == cost.flops == cost.disk == 0
    assert "nothing to do" in printed(found)
    assert found.notes == []


def test_a_damaged_record_is_no_run_to_estimate_from(copied, smoke):
    victim = next((copied / "artifacts" / "routing").iterdir())
    (victim / artifacts.RECORD).write_text("{")
    _, costs = costs_of(smoke)
    assert costs["routing"].num_runs - costs["routing"].num_reused == 1
    assert costs["routing"].cpu_seconds > 0  # as the others took


def test_a_finished_study_is_planned_without_torch(finished, tmp_path):
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


def removed(smoke, step_name, series="main"):
    """Records of the step's runs on a series; the first of them is deleted."""
    entries = [
        entry
        for entry in plan_study(smoke).entries
        if entry.step_name == step_name and entry.checkpoint.series == series
    ]
    records = [artifacts.read_record(entry.artifact.path) for entry in entries]
    artifacts.discard(entries[0].artifact.path)
    return records


def test_routing_tensors_are_as_large_as_estimated(copied, smoke):
    size = removed(smoke, "routing")[0]["num_bytes"]
    estimate = costs_of(smoke)[1]["routing"].disk
    assert 0.9 * estimate <= size <= 1.05 * estimate


def test_time_is_that_of_earlier_runs_on_models_of_the_size(copied, smoke):
    alike = removed(smoke, "routing")[1:]
    alike += [
        artifacts.read_record(entry.artifact.path)
        for entry in plan_study(smoke).entries
        if entry.step_name == "routing" and entry.checkpoint.series == "shuffled"
    ]
    found, costs = costs_of(smoke)
    mean = sum(record["seconds"] for record in alike) / len(alike)
    assert costs["routing"].cpu_seconds == pytest.approx(mean)
    assert any("earlier runs" in note for note in found.notes)


def test_time_grows_with_the_tokens(copied, smoke):
    """Twice the training steps take twice the time; routing has the same samples at either."""
    (series, *_) = smoke.series
    spec = series.source.pretraining
    longer = spec.model_copy(
        update={
            "num_steps": 2 * spec.num_steps,
            "checkpoint_steps": tuple(2 * step for step in spec.checkpoint_steps),
        }
    )
    source = series.source.model_copy(update={"pretraining": longer})
    other = smoke.model_copy(
        update={"series": (series.model_copy(update={"source": source}), *smoke.series[1:])}
    )
    places = artifacts.artifacts_root() / "pretraining"
    records = [artifacts.read_record(place) for place in places.glob("v*-*")]
    model = spec.model.model_dump(mode="json")
    seconds = [r["seconds"] for r in records if r["inputs"]["pretraining"]["model"] == model]
    _, costs = costs_of(other)
    assert costs["pretraining"].cpu_seconds == pytest.approx(2 * sum(seconds) / len(seconds))


def test_runs_on_a_gpu_are_not_mixed_with_those_on_a_processor(copied, smoke):
    removed(smoke, "routing")
    (record, *_) = removed(smoke, "routing", "shuffled")[1:]
    place = next(
        path
        for path in (artifacts.artifacts_root() / "routing").glob("v*-*")
        if artifacts.read_record(path)["digest"] == record["digest"]
    )
    changed = {**record, "device": "cuda", "seconds": 5.0}
    (place / artifacts.RECORD).write_text(json.dumps(changed))
    _, costs = costs_of(smoke)
    assert (costs["routing"].gpu_seconds, costs["routing"].cpu_seconds) == (10.0, 0)


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
