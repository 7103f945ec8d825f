"""Scoring one checkpoint: what is written, and what an interruption or a failure leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from evals import cached_tasks
from models.adapters import add_adapter, save_adapter
from store import artifacts
from store.artifacts import Artifact, Checkpoint
from studies.settings import EvaluationSpec, Runtime, TuningSpec
from studies.spec import Benchmark
from tasks.benchmarks import Part, find_benchmarks, score_benchmarks
from tests.evals.hub_data import add_arc
from tests.loopback_hub import LoopbackHub

WORDS = ["<pad>", "<eos>", "<unk>", "Question:", "Answer:", "+", "=", *(f"w{i}" for i in range(40))]
OWN = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: ["w1", "w2", "w3"]
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
CODE = """
import sys
sys.path.insert(0, {house!r})
from tests.tasks.test_benchmarks import score_in
score_in({out!r}, {folder!r}, int({delay!r}))
"""


def model(seed: int = 3) -> OlmoeForCausalLM:
    torch.manual_seed(seed)
    config = OlmoeConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return OlmoeForCausalLM(config).eval()


@pytest.fixture
def checkpoint(root: Path) -> Checkpoint:
    folder = root / "checkpoint"
    model().save_pretrained(folder)
    words = WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    backend = Tokenizer(words)
    backend.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    return Checkpoint(
        series="main",
        step=1,
        tokens_seen=None,
        revision="step1",
        digest="0",
        location="checkpoint",
    )


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    cached_tasks._load.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    for name, shift in (("first", 1), ("second", 5), ("third", 11)):
        (place / f"{name}.yaml").write_text(OWN.format(name=name))
        rows = [{"prompt": f"w{i + shift} + w{i} =", "answer": i % 3} for i in range(12)]
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def chosen(*names: str, domain: str = "math") -> dict[str, list[Benchmark]]:
    return {domain: [Benchmark(name=name) for name in names]}


def score(
    out: Path,
    checkpoint: Checkpoint,
    folder: Path,
    benchmarks: dict[str, list[Benchmark]],
    **inputs: object,
) -> dict:
    out.mkdir(exist_ok=True)
    evaluation = inputs.pop("evaluation", EvaluationSpec(tasks_folder=folder))
    defaults = {"items": None, "adapters": {}, "commits": {}, "runtime": Runtime(device="cpu")}
    return score_benchmarks.body(
        out,
        checkpoint=checkpoint,
        benchmarks=benchmarks,
        definitions=find_benchmarks(benchmarks, evaluation)["definitions"],
        evaluation=evaluation,
        **{**defaults, **inputs},
    )


def rows(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / f"benchmark_{name}.parquet").to_pylist()


def test_scores_and_documents_are_written_by_domain(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    benchmarks = {**chosen("first", "second"), **chosen("first", domain="code")}
    summary = score(tmp_path / "out", checkpoint, folder, benchmarks)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "benchmark_documents.parquet",
        "benchmark_scores.parquet",
    ]
    scores = rows(tmp_path / "out", "scores")
    names = ["math/first", "math/second", "code/first"]
    assert [f"{row['domain']}/{row['benchmark']}" for row in scores] == names
    assert summary["scores"] == {n: row["value"] for n, row in zip(names, scores, strict=True)}
    documents = rows(tmp_path / "out", "documents")
    assert len(documents) == sum(row["num_documents"] for row in scores) == 36
    for row in scores:
        correct = [
            d["correct"]
            for d in documents
            if (d["domain"], d["benchmark"]) == (row["domain"], row["benchmark"])
        ]
        assert row["value"] == pytest.approx(sum(correct) / len(correct))
    assert {entry["dataset"] for entry in summary["data"].values()} == {"json"}
    assert summary["device"] == "cpu"


def test_a_failing_benchmark_keeps_the_others_and_is_tried_again(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path, hub: LoopbackHub
) -> None:
    out = tmp_path / "out"
    benchmarks = {**chosen("first", "arc_easy", "second"), **chosen("openbookqa", domain="code")}
    with pytest.raises(
        ValueError, match=r"2 of 4 benchmarks failed; the other 2 are saved"
    ) as told:
        score(out, checkpoint, folder, benchmarks)
    assert "arc_easy: benchmark 'arc_easy': data set allenai/ai2_arc (ARC-Easy)" in str(told.value)
    assert "openbookqa: benchmark 'openbookqa': data set allenai/openbookqa" in str(told.value)
    assert sorted(path.name for path in (out / "parts").iterdir()) == [
        *("000.json", "000.parquet", "002.json", "002.parquet")
    ]
    commit = add_arc(hub)
    benchmarks.pop("code")
    kept = json.loads((out / "parts" / "000.json").read_text())
    kept["score"]["value"] = 0.123  # shows that it was not scored again
    (out / "parts" / "000.json").write_text(json.dumps(kept))
    summary = score(out, checkpoint, folder, benchmarks)
    assert [row["benchmark"] for row in rows(out, "scores")] == ["first", "arc_easy", "second"]
    assert summary["scores"]["math/first"] == 0.123
    assert summary["data"]["math/arc_easy"]["commit"] == commit
    assert not (out / "parts").exists()


def score_in(out: str, folder: str, delay: int) -> None:
    """What a killed process ran: the second benchmark takes long."""
    checkpoint = Checkpoint(
        series="main",
        step=1,
        tokens_seen=None,
        revision="step1",
        digest="0",
        location="checkpoint",
    )
    tasks = Path(folder)
    slow = tasks / "second.yaml"
    code = f"import time\ndef wait(docs):\n    time.sleep({delay})\n    return docs\n"
    (tasks / "slow.py").write_text(code)
    slow.write_text(slow.read_text() + "process_docs: !function slow.wait\n")
    score(Path(out), checkpoint, tasks, chosen("first", "second"))


def test_a_killed_process_is_continued_where_it_was(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    out, house = tmp_path / "out", str(Path(__file__).parents[2])
    code = CODE.format(house=house, out=str(out), folder=str(folder), delay="60")
    child = subprocess.Popen([sys.executable, "-c", code], cwd=house, env=dict(os.environ))
    record = out / "parts" / "000.json"
    for _ in range(600):
        if record.exists() or child.poll() is not None:
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert record.exists()
    assert not (out / "parts" / "001.json").exists()
    (folder / "slow.py").write_text("def wait(docs):\n    return docs\n")
    benchmarks = chosen("first", "second")
    definitions = find_benchmarks(benchmarks, EvaluationSpec(tasks_folder=folder))["definitions"]
    part = Part(out / "parts" / "000", "math", benchmarks["math"][0], definitions)
    assert part.is_complete()
    resumed = score(out, checkpoint, folder, benchmarks)
    fresh = score(tmp_path / "fresh", checkpoint, folder, benchmarks)
    assert resumed == fresh
    assert rows(out, "documents") == rows(tmp_path / "fresh", "documents")


@pytest.mark.parametrize("damage", ["rows", "record", "no rows", "packages", "definition"])
def test_a_leftover_that_does_not_fit_is_scored_again(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    (folder / "second.jsonl").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 benchmarks failed.*\n.*second.jsonl does not ex"):
        score(out, checkpoint, folder, chosen("first", "second"))
    table, record = out / "parts" / "000.parquet", out / "parts" / "000.json"
    told = json.loads(record.read_text())
    told["score"]["value"] = 0.123
    if damage == "rows":
        table.write_bytes(table.read_bytes()[:-1])
    elif damage == "no rows":
        table.unlink()
    elif damage == "packages":
        told["made_from"][-1]["torch"] = "1.0"
    elif damage == "definition":
        (folder / "first.yaml").write_text(OWN.format(name="first") + "description: new\n")
    record.write_text("{" if damage == "record" else json.dumps(told))
    summary = score(out, checkpoint, folder, chosen("first"))
    assert summary["scores"]["math/first"] != 0.123


def test_each_domain_is_scored_with_its_adapter(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path
) -> None:
    adapted = add_adapter(model(), TuningSpec(rank=4))
    generator = torch.Generator().manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data = 3 * torch.randn(weight.shape, generator=generator)
    adapter = Artifact(step_name="tuning", version=1, fingerprint="f", digest="d")
    save_adapter(adapted, adapter.path / "adapter", "base")
    assert adapter.path.is_relative_to(artifacts.root())
    benchmarks = {**chosen("first"), **chosen("first", domain="code")}

    def responses(name: str, **inputs: object) -> dict[str, list[str]]:
        score(tmp_path / name, checkpoint, folder, benchmarks, **inputs)
        documents = rows(tmp_path / name, "documents")
        return {
            domain: [d["response"] for d in documents if d["domain"] == domain]
            for domain in benchmarks
        }

    plain = responses("plain")
    tuned = responses("tuned", adapters={"math": adapter})
    assert plain["math"] == plain["code"] == tuned["code"]
    assert tuned["math"] != plain["math"]


def test_the_studys_dtype_and_pins_are_used(
    checkpoint: Checkpoint, folder: Path, tmp_path: Path, hub: LoopbackHub
) -> None:
    old = add_arc(hub, num_test=12)
    add_arc(hub, num_test=6)
    benchmarks = chosen("arc_easy")
    half = EvaluationSpec(dtype="bfloat16")
    pins = {"allenai/ai2_arc": old}
    summary = score(tmp_path / "out", checkpoint, folder, benchmarks, evaluation=half, commits=pins)
    assert summary["data"]["math/arc_easy"]["commit"] == old
    assert rows(tmp_path / "out", "scores")[0]["num_documents"] == 12


def test_a_study_is_checked_up_front_with_the_nano_names_known() -> None:
    nano = Benchmark(name="nano_math_choice")
    told = find_benchmarks({"math": [nano], "code": []}, EvaluationSpec())["definitions"]
    assert set(told) == {"nano_math_choice"}
    with pytest.raises(ValueError, match=r"did you mean nano_math_choice"):
        find_benchmarks({"math": [Benchmark(name="nano_math_choices")]}, EvaluationSpec())
    assert find_benchmarks({"math": []}, EvaluationSpec())["definitions"] == {}
