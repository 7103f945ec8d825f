import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
import torch
from prefect import flow
from transformers import OlmoeConfig, OlmoeForCausalLM

from models.checkpoints import checkpoint_digest
from models.loading import load_checkpoint
from models.nano.corpus import SPECIAL_TOKENS
from models.nano.model import build_tokenizer
from models.tuning import with_adapters
from store import artifacts
from store.artifacts import Checkpoint, Tokenizer
from store.identity import Label, fingerprint, identities, path_digest
from studies.settings import Runtime, TuningSpec
from studies.sources import JsonlSamples
from tasks.prefect_task import submit
from tasks.tuning import collect_instructions, tune_checkpoint

WORDS = [*SPECIAL_TOKENS, "what", "is", "one", "two", "three", "plus", "?"]
ROWS = [
    {"question": "what is one plus one ?", "answer": "two"},
    {"question": "what is one plus two ?", "answer": "three"},
    {"question": "what is two plus one ?", "answer": "three"},
    {"question": "what is two ?", "answer": "one plus one"},
    {"question": "what is two ?", "answer": "one plus one"},
]
SPEC = TuningSpec(rank=2, learning_rate=1e-2, batch_size=2, epochs=5, max_length=16)
RUNTIME = Runtime(workers=1, device="cpu")


@pytest.fixture
def checkpoint(root):
    """A tiny random OLMoE with its tokenizer, as a checkpoint of a series."""
    folder = root / "hub" / "step5-tokens10"
    config = OlmoeConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        OlmoeForCausalLM(config).save_pretrained(folder)
    build_tokenizer(WORDS).save_pretrained(folder)
    return Checkpoint(
        series="main",
        step=5,
        tokens_seen=10,
        revision=folder.name,
        digest=checkpoint_digest(folder),
        location=str(folder.relative_to(root)),
    )


@pytest.fixture
def inputs(checkpoint, tmp_path):
    """What the step that collects instructions is given."""
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return {
        "label": Label("main math"),
        "samples": JsonlSamples(path=path, text_field="question", answer_field="answer"),
        "max_length": SPEC.max_length,
        "tokenizer": Tokenizer(
            digest=path_digest(checkpoint.path / "tokenizer.json"), location=checkpoint.location
        ),
        "commits": {},
        "runtime": RUNTIME,
    }


@pytest.fixture
def instructions(inputs):
    """The artifact, made in this process."""
    key = fingerprint("instructions", 1, inputs)
    with artifacts.draft("instructions", 1, key, resumable=False) as out:
        return artifacts.commit(
            out,
            step_name="instructions",
            version=1,
            fingerprint=key,
            inputs=identities(inputs),
            summary=collect_instructions.body(out, **inputs),
            started_at=datetime.now(UTC),
            device="cpu",
        )


# ---------------------------------------------------------------- instructions


def test_instructions_are_token_ids_with_the_answer_and_its_end_counted(inputs, tmp_path):
    summary = collect_instructions.body(tmp_path, **inputs)
    rows = pq.read_table(tmp_path / "instructions.parquet").to_pylist()
    assert [row["sample_id"] for row in rows] == [0, 1, 2, 3]
    assert [WORDS[token] for token in rows[3]["token_ids"]] == [
        *["what", "is", "two", "?", "one", "plus", "one"],
        "<eos>",
    ]
    assert rows[3]["counted"] == [False] * 4 + [True] * 4
    assert (summary["counts"]["samples"], summary["counts"]["duplicates"]) == (4, 1)


def test_instructions_are_known_by_data_and_length_not_by_the_domain(inputs):
    def key(**changes):
        return fingerprint("instructions", 1, inputs | changes)

    assert key(label=Label("other chemistry")) == key()
    assert key(max_length=8) != key()
    assert key(commits={"owner/name@main": "c0ffee"}) != key()
    assert key(samples=inputs["samples"].model_copy(update={"limit": 3})) != key()


# ---------------------------------------------------------------- the adapter


@flow
def tune_twice(inputs, checkpoint, rank):
    """Two domains with the same data, then the first again at another rank."""
    collected, adapters = [], []
    for domain in ("commonsense", "chemistry"):
        label = Label(domain)
        collected.append(submit(collect_instructions, inputs | {"label": label}).result())
        adapters.append(
            submit(
                tune_checkpoint,
                {
                    "label": label,
                    "checkpoint": checkpoint,
                    "instructions": collected[-1],
                    "tuning": SPEC.model_copy(update={"rank": rank}),
                    "runtime": RUNTIME,
                },
            ).result()
        )
    return collected, adapters


@pytest.mark.usefixtures("prefect_server")
def test_domains_with_the_same_data_share_one_adapter_per_rank(inputs, checkpoint, bodies):
    collected, adapters = tune_twice(inputs, checkpoint, 2)
    assert collected[0] == collected[1]
    assert adapters[0] == adapters[1]
    assert bodies == {"instructions": 1, "tuning": 1}
    _, others = tune_twice(inputs, checkpoint, 3)
    assert bodies == {"instructions": 1, "tuning": 2}
    assert others[0].digest != adapters[0].digest
    assert sorted(
        file.relative_to(adapters[0].path).as_posix()
        for file in adapters[0].path.rglob("*")
        if file.is_file()
    ) == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "record.json",
        "result.json",
        "tuning_loss.parquet",
    ]
    curve = pq.read_table(adapters[0].path / "tuning_loss.parquet")
    assert curve.column_names == ["step", "epoch", "learning_rate", "loss"]
    assert curve["step"].to_pylist() == list(range(1, 11))
    assert curve["epoch"].to_pylist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    summary = adapters[0].summary
    assert (summary["num_samples"], summary["num_steps"]) == (4, 10)
    assert summary["last_epoch_loss"] < summary["first_epoch_loss"]
    assert summary["last_epoch_loss"] == pytest.approx(sum(curve["loss"].to_pylist()[-2:]) / 2)


def test_an_adapter_knows_its_checkpoint_by_digest_and_can_be_used(
    instructions, checkpoint, tmp_path, root
):
    tune_checkpoint.body(
        tmp_path,
        label=Label("math"),
        checkpoint=checkpoint,
        instructions=instructions,
        tuning=SPEC,
        runtime=RUNTIME,
    )
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == checkpoint.digest
    assert str(root) not in text
    model, _, _ = load_checkpoint(checkpoint.path, "cpu", "float32")
    adapted = with_adapters(model, {"math": tmp_path / "adapter"})
    ids = torch.tensor([[3, 4, 6, 9]])
    with torch.no_grad():
        plain, tuned = (adapted.use(domain)(ids).logits.clone() for domain in (None, "math"))
    assert (plain - tuned).abs().max() > 0.01


def test_a_diverging_tuning_names_the_checkpoint(instructions, checkpoint, tmp_path):
    with pytest.raises(ValueError, match="main step5-tokens10: the loss of tuning step"):
        tune_checkpoint.body(
            tmp_path,
            label=Label("math"),
            checkpoint=checkpoint,
            instructions=instructions,
            tuning=SPEC.model_copy(update={"learning_rate": 1e36, "alpha": 10**6}),
            runtime=RUNTIME,
        )
