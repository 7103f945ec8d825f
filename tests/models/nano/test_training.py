import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, OlmoeForCausalLM

from models.nano import training
from models.nano.corpus import DOMAINS, save_corpus
from models.nano.model import build_model, build_tokenizer
from models.nano.training import learning_rate, train, training_batches
from models.training_state import load_state
from studies.nano_model import PretrainingSpec

ROOT = Path(__file__).parents[3]


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def _report_every_step(monkeypatch):
    monkeypatch.setattr(training, "PROGRESS_EVERY", 1)


@pytest.fixture(scope="module")
def finished(tiny_spec, tiny_corpus, tmp_path_factory):
    """A training that was never interrupted."""
    out = tmp_path_factory.mktemp("finished")
    train(tiny_spec, tiny_corpus, shuffle_answers=False, out=out)
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file()
    }


def kill_at(step: int):
    def on_progress(at: int, num_steps: int, message: str) -> None:
        if at == step:
            raise Killed

    return on_progress


def test_writes_checkpoints_and_loss_curve_and_nothing_else(finished):
    assert sorted(path.name for path in finished.iterdir()) == ["checkpoints", "loss_curve.parquet"]
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == [
        "step0-tokens0",
        "step12-tokens1.2K",
        "step4-tokens400",
        "step8-tokens800",
    ]


def test_checkpoints_are_ordinary_hugging_face_folders(finished, tiny_corpus, tiny_spec):
    folder = finished / "checkpoints" / "step0-tokens0"
    model = OlmoeForCausalLM.from_pretrained(folder, local_files_only=True)
    fresh = build_model(tiny_spec.model, len(tiny_corpus.vocabulary), tiny_spec.seed)
    for name, weight in fresh.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=0, atol=0)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 1)
    words = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert words.encode("3 + 4 =") == [
        tiny_corpus.vocabulary.index(w) for w in ("3", "+", "4", "=")
    ]


def test_loss_curve_is_tidy(finished, tiny_spec):
    curve = pq.read_table(finished / "loss_curve.parquet").to_pandas()
    assert list(curve.columns) == ["step", "domain", "loss", "balancing_loss", "learning_rate"]
    assert len(curve) == 12 * 5
    wide = curve.pivot(index="step", columns="domain", values="loss")
    shares = tiny_spec.domain_shares
    np.testing.assert_allclose(wide["all"], sum(shares[d] * wide[d] for d in DOMAINS), rtol=1e-6)
    # The first batch meets untrained weights: every word is about equally likely.
    assert 3.0 < wide["all"].iloc[0] < 5.5
    rates = curve[curve["domain"] == "all"]["learning_rate"]
    assert list(rates) == [learning_rate(tiny_spec, step) for step in range(1, 13)]


def test_first_loss_equals_the_forward_pass_of_the_first_checkpoint(
    finished, tiny_spec, tiny_corpus
):
    batches = training_batches(
        tiny_spec, tiny_corpus, build_tokenizer(tiny_corpus.vocabulary), False
    )
    prompts, answers = batches.draw(1)
    model = OlmoeForCausalLM.from_pretrained(finished / "checkpoints" / "step0-tokens0").eval()
    with torch.no_grad():
        whole = model(input_ids=torch.cat([prompts, answers[:, None]], dim=1)).logits
    expected = -whole[:, 3].log_softmax(-1).gather(1, answers[:, None]).mean().item()
    curve = pq.read_table(finished / "loss_curve.parquet").to_pylist()
    assert curve[0]["loss"] == pytest.approx(expected, abs=1e-5)


def test_equal_trainings_are_equal_to_the_byte(finished, tiny_spec, tiny_corpus, tmp_path):
    torch.rand(3)  # torch's global generator has no say
    train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_order_of_shares_in_the_file_does_not_matter(finished, tiny_spec, tiny_corpus, tmp_path):
    shares = dict(reversed(tiny_spec.domain_shares.items()))
    spec = tiny_spec.model_copy(update={"domain_shares": shares})
    train(spec, tiny_corpus, shuffle_answers=False, out=tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_shuffled_answers_are_another_training_from_the_same_start(
    finished, tiny_spec, tiny_corpus, tmp_path
):
    train(tiny_spec, tiny_corpus, shuffle_answers=True, out=tmp_path)
    ours, theirs = contents(tmp_path), contents(finished)
    start, end = "checkpoints/step0-tokens0", "checkpoints/step12-tokens1.2K"
    assert ours[f"{start}/model.safetensors"] == theirs[f"{start}/model.safetensors"]
    assert ours[f"{end}/model.safetensors"] != theirs[f"{end}/model.safetensors"]


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_a_stopped_training_goes_on_to_the_same_bytes(
    finished, tiny_spec, tiny_corpus, tmp_path, step
):
    with pytest.raises(Killed):
        train(
            tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path, on_progress=kill_at(step)
        )
    assert not (tmp_path / "loss_curve.parquet").exists()
    seen = []
    train(
        tiny_spec,
        tiny_corpus,
        shuffle_answers=False,
        out=tmp_path,
        on_progress=lambda at, num_steps, message: seen.append(at),
    )
    # The checkpoint of step 4 is written after step 4 reports, so 4 itself is lost.
    assert seen[0] == {1: 1, 4: 1, 6: 5, 11: 9}[step]
    assert contents(tmp_path) == contents(finished)


def test_leftovers_of_a_kill_are_discarded(finished, tiny_spec, tiny_corpus, tmp_path):
    with pytest.raises(Killed):
        train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path, on_progress=kill_at(6))
    half = tmp_path / "checkpoints" / ".step8-tokens800.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoints" / "step8-tokens800").mkdir()  # renamed, but its state is not written
    unfinished = tmp_path / "training_state" / ".step8.tmp"
    unfinished.mkdir()
    (unfinished / "tensors.safetensors").write_bytes(b"half")
    train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_a_missing_checkpoint_begins_again(finished, tiny_spec, tiny_corpus, tmp_path):
    with pytest.raises(Killed):
        train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path, on_progress=kill_at(6))
    shutil.rmtree(tmp_path / "checkpoints" / "step0-tokens0")
    train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_another_environment_begins_again(finished, tiny_spec, tiny_corpus, tmp_path):
    with pytest.raises(Killed):
        train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path, on_progress=kill_at(6))
    (header,) = (tmp_path / "training_state").glob("*/state.json")
    state = json.loads(header.read_text())
    state["environment"]["torch"] = "1.0"
    header.write_text(json.dumps(state))
    seen = []
    train(
        tiny_spec,
        tiny_corpus,
        shuffle_answers=False,
        out=tmp_path,
        on_progress=lambda at, num_steps, message: seen.append(at),
    )
    assert seen[0] == 1
    assert contents(tmp_path) == contents(finished)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


DAMAGE = {
    "cut json": lambda state: (state / "state.json").write_text("{"),
    "other json": lambda state: (state / "state.json").write_text("[]"),
    "empty json": lambda state: (state / "state.json").write_text("{}"),
    "cut tensors": lambda state: cut_short(state / "tensors.safetensors"),
    "empty tensors": lambda state: (state / "tensors.safetensors").write_bytes(b""),
    "no tensors": lambda state: (state / "tensors.safetensors").unlink(),
    "no curve": lambda state: save_file({}, state / "tensors.safetensors"),
    "another step": lambda state: state.rename(state.with_name("step5")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_counts_as_none(damage, tiny_spec, tiny_corpus, finished, tmp_path):
    with pytest.raises(Killed):
        train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path, on_progress=kill_at(6))
    states = tmp_path / "training_state"
    DAMAGE[damage](states / "step4")
    assert load_state(states) is None
    train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_an_earlier_state_takes_the_place_of_a_damaged_one(
    finished, tiny_spec, tiny_corpus, tmp_path
):
    with pytest.raises(Killed):
        train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path, on_progress=kill_at(6))
    states = tmp_path / "training_state"
    for name in ("step8", "step10"):
        shutil.copytree(states / "step4", states / name)
        (states / name / "state.json").write_text("{")
    seen = []
    train(
        tiny_spec,
        tiny_corpus,
        shuffle_answers=False,
        out=tmp_path,
        on_progress=lambda at, num_steps, message: seen.append(at),
    )
    assert seen[0] == 5
    assert contents(tmp_path) == contents(finished)


def test_a_loss_that_is_not_finite_ends_the_training(tiny_spec, tiny_corpus, tmp_path):
    spec = tiny_spec.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    message = (
        r"the loss of step [2-9] is (nan|inf), expected a finite number: the training diverged at "
        r"a learning rate of 1e\+30; lower learning_rate \(now 1e\+30\) or raise warmup_steps"
    )
    with pytest.raises(ValueError, match=message):
        train(spec, tiny_corpus, shuffle_answers=False, out=tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step0-tokens0"]
    assert not (tmp_path / "loss_curve.parquet").exists()


def test_a_finished_training_is_left_as_it_is(finished, tiny_spec, tiny_corpus):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    train(tiny_spec, tiny_corpus, shuffle_answers=False, out=finished, on_progress=kill_at(1))
    assert before == {file: file.stat().st_mtime_ns for file in finished.rglob("*")}


def test_another_recipe_is_refused(finished, tiny_spec, tiny_corpus, tmp_path):
    with pytest.raises(ValueError, match="holds a training of another recipe"):
        train(tiny_spec, tiny_corpus, shuffle_answers=True, out=finished)
    with pytest.raises(Killed):
        train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path, on_progress=kill_at(6))
    other = tiny_spec.model_copy(update={"learning_rate": 1e-3})
    with pytest.raises(ValueError, match="delete the folder or train into another one"):
        train(other, tiny_corpus, shuffle_answers=False, out=tmp_path)


def test_a_killed_process_goes_on_to_the_same_bytes(finished, tiny_spec, tiny_corpus, tmp_path):
    save_corpus(tiny_corpus, tmp_path / "corpus")
    (tmp_path / "spec.json").write_text(tiny_spec.model_dump_json())
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from models.nano import training
        from models.nano.corpus import load_corpus
        from studies.nano_model import PretrainingSpec

        here = Path(sys.argv[1])
        training.PROGRESS_EVERY = 1

        def kill(step, num_steps, message):
            if step == 10:
                os.kill(os.getpid(), signal.SIGKILL)

        training.train(
            PretrainingSpec.model_validate_json((here / "spec.json").read_text()),
            load_corpus(here / "corpus"),
            shuffle_answers=False,
            out=here / "out",
            on_progress=kill,
        )
        """
    )
    died = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert died.stderr == b""  # no progress bars, no warnings
    assert [path.name for path in (tmp_path / "out" / "training_state").iterdir()] == ["step8"]
    train(tiny_spec, tiny_corpus, shuffle_answers=False, out=tmp_path / "out")
    assert contents(tmp_path / "out") == contents(finished)


def test_progress_message(tiny_spec, tiny_corpus, tmp_path):
    messages = []
    train(
        tiny_spec,
        tiny_corpus,
        shuffle_answers=False,
        out=tmp_path,
        on_progress=lambda *report: messages.append(report),
    )
    step, num_steps, message = messages[-1]
    assert (step, num_steps) == (12, 12)
    assert [part.split()[-1] for part in message.split(" | ")][1:] == ["tokens/s", "left"]
    assert message.endswith("| 0:00 left")


def test_learning_rate_schedule():
    spec = PretrainingSpec(
        num_steps=100,
        warmup_steps=10,
        decay_share=0.2,
        learning_rate=1.0,
        checkpoint_steps=(0, 100),
    )
    rates = {step: learning_rate(spec, step) for step in (1, 5, 10, 80, 90, 100)}
    assert rates == pytest.approx({1: 0.1, 5: 0.5, 10: 1.0, 80: 1.0, 90: 0.55, 100: 0.1})
    flat = spec.model_copy(update={"warmup_steps": 0, "decay_share": 0.0})
    assert {learning_rate(flat, step) for step in (1, 50, 100)} == {1.0}


def test_weight_decay_by_kind_of_weight(tiny_corpus):
    spec = PretrainingSpec(weight_decay=5.0, embedding_weight_decay=1.0, router_weight_decay=0.25)
    model = build_model(spec.model, len(tiny_corpus.vocabulary), 0)
    names = {id(weight): name for name, weight in model.named_parameters()}
    decays = {
        names[id(weight)]: group["weight_decay"]
        for group in training._optimizer(spec, model).param_groups
        for weight in group["params"]
    }
    assert set(decays) == set(names.values())
    assert decays["model.embed_tokens.weight"] == decays["lm_head.weight"] == 1.0
    layer = "model.layers.3"
    assert decays[f"{layer}.mlp.gate.weight"] == 0.25
    for matrix in ("mlp.experts.gate_up_proj", "mlp.experts.down_proj", "self_attn.q_proj.weight"):
        assert decays[f"{layer}.{matrix}"] == 5.0
    for norm in ("input_layernorm.weight", "self_attn.q_norm.weight"):
        assert decays[f"{layer}.{norm}"] == 0.0
    assert decays["model.norm.weight"] == 0.0


def test_unknown_domain_is_refused(tiny_spec, tiny_corpus, tmp_path):
    spec = tiny_spec.model_copy(update={"domain_shares": {"math": 0.5, "poetry": 0.5}})
    with pytest.raises(ValueError, match="names 'poetry', of which the corpus has no training"):
        train(spec, tiny_corpus, shuffle_answers=False, out=tmp_path)
