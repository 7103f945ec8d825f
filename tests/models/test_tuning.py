import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from models.extraction import token_scores
from models.families.registry import family_of
from models.loading import load_checkpoint
from models.tuning import tune, with_adapters
from studies.settings import TuningSpec

ROOT = Path(__file__).parents[2]
OLMOE = family_of("olmoe")
SPEC = TuningSpec(rank=3, learning_rate=1e-2, batch_size=4, epochs=3)


class Stopped(Exception):
    pass


def stop_at(step: int):
    def on_progress(at: int, num_steps: int, message: str) -> None:
        if at == step:
            raise Stopped

    return on_progress


@pytest.fixture
def tuned(model, samples, tmp_path):
    """Tunes the tiny model; every call into the same folder unless another is named."""

    def run(spec=SPEC, out="out", **options):
        (tmp_path / out).mkdir(exist_ok=True)
        options = {"base": "c0ffee", "name": "main step5", "save_every": 0.0, **options}
        result = tune(model, OLMOE, *samples, spec, out=tmp_path / out, **options)
        return result, contents(tmp_path / out)

    return run


def contents(out: Path) -> dict[str, bytes]:
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in sorted(out.rglob("*"))
        if file.is_file()
    }


# ---------------------------------------------------------------- what is learned


def test_tuning_lowers_the_loss_on_its_samples(model, samples, tuned, tmp_path):
    before = mean_loss(model, samples)
    result, _ = tuned(SPEC.model_copy(update={"epochs": 20}))
    assert result.losses_S[:3].mean() == pytest.approx(before, rel=0.3)
    adapted = with_adapters(model, {"math": tmp_path / "out" / "adapter"})
    assert mean_loss(adapted.use("math"), samples) < 0.8 * before
    assert mean_loss(adapted.use(None), samples) == before


@torch.no_grad()
def mean_loss(model, samples) -> float:
    logs = []
    for ids, flags in zip(*samples, strict=True):
        rows = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        logs += [rows[at - 1, ids[at]].item() for at in range(1, len(ids)) if flags[at]]
    return -float(np.mean(logs))


def test_scores_of_other_texts_change(model, samples, tuned, tmp_path):
    tuned()
    adapted = with_adapters(model, {"math": tmp_path / "out" / "adapter"})
    texts = [[3, 9, 20, 11], [40, 2, 7]], [[True] * 4, [True] * 3]
    scores = [
        np.concatenate(token_scores(adapted.use(domain), OLMOE, *texts, batch_size=2))
        for domain in (None, "math")
    ]
    assert abs(scores[0] - scores[1]).max() > 0.01


def test_the_curve_has_a_row_per_step(tuned):
    result, _ = tuned()
    assert result.epochs_S.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert result.learning_rates_S[0] == SPEC.learning_rate
    assert result.learning_rates_S[-1] == pytest.approx(SPEC.learning_rate / 9)
    assert result.losses_S.shape == (9,)
    assert result.num_trained_parameters == 3 * 3 * 2 * 16 * 3  # layers, targets, factors, 16 by 3


def test_the_model_is_handed_back_as_it_came(model, tuned):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = torch.random.get_rng_state()
    tuned()
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not model.training


def test_nothing_but_the_adapter_is_left(tuned):
    _, files = tuned()
    assert list(files) == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
    assert json.loads(files["adapter/adapter_config.json"])["base_model_name_or_path"] == "c0ffee"


def test_frozen_weights_may_be_bfloat16_beside_an_adapter_in_float32(model, tuned, tmp_path):
    model.to(torch.bfloat16)
    result, _ = tuned(SPEC.model_copy(update={"epochs": 20, "dtype": "bfloat16"}))
    assert result.losses_S[-3:].mean() < 0.8 * result.losses_S[:3].mean()
    weights = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_a_dense_model_can_be_tuned(samples, tmp_path):
    config = Qwen3Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, initializer_range=0.3,
    )  # fmt: skip
    spec = SPEC.model_copy(update={"epochs": 20, "targets": ("q_proj", "down_proj")})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config)
    result = tune(
        model, family_of("qwen3"), *samples, spec, base="c0ffee", name="dense", out=tmp_path
    )
    a_third = len(result.losses_S) // 3  # batches differ, so single losses say little
    assert result.losses_S[-a_third:].mean() < result.losses_S[:a_third].mean()


# ---------------------------------------------------------------- the same and not the same


def test_two_tunings_give_the_same_bytes(tuned):
    first, files = tuned()
    torch.manual_seed(99)  # the random state outside does not matter
    second, others = tuned(out="again")
    assert files == others
    assert np.array_equal(first.losses_S, second.losses_S)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rank": 6},
        {"rank": 6, "alpha": 6},
        {"alpha": 3},
        {"dropout": 0.0},
        {"learning_rate": 1e-3},
        {"batch_size": 3},
        {"epochs": 1},
        {"warmup_share": 0.5},
        {"targets": ("q_proj",)},
    ],
    ids=str,
)
def test_every_setting_gives_another_adapter(tuned, change):
    _, files = tuned()
    _, others = tuned(SPEC.model_copy(update=change), out="other")
    name = "adapter/adapter_model.safetensors"
    assert files[name] != others[name]


# ---------------------------------------------------------------- stopped and resumed


@pytest.mark.parametrize("step", [1, 4, 9])
def test_a_stopped_tuning_goes_on_to_the_same_bytes(tuned, step):
    first, files = tuned(out="finished")
    with pytest.raises(Stopped):
        tuned(on_progress=stop_at(step))
    seen = []
    second, others = tuned(on_progress=lambda at, num_steps, message: seen.append(at))
    assert seen[0] == step  # what step leaves is kept after it is told, so it is taken again
    assert others == files
    assert np.array_equal(first.losses_S, second.losses_S)


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
from models.loading import load_checkpoint
from models.tuning import tune
from studies.settings import TuningSpec

torch.set_num_threads(1)
folder, out = map(Path, sys.argv[1:])
def die(at, num_steps, message):
    if at == 5:
        os.kill(os.getpid(), signal.SIGKILL)
model, family, _ = load_checkpoint(folder, "cpu", "float32")
samples = torch.load(folder / "samples.pt", weights_only=True)
spec = TuningSpec.model_validate_json((folder / "spec.json").read_text())
tune(model, family, *samples, spec, base="c0ffee", name="main step5", out=out, on_progress=die,
     save_every=0.0)
"""


def test_a_tuning_killed_half_way_goes_on_to_the_same_bytes(model, samples, tmp_path):
    checkpoint, finished, out = (tmp_path / name for name in ("checkpoint", "finished", "out"))
    model.save_pretrained(checkpoint)
    torch.save(samples, checkpoint / "samples.pt")
    (checkpoint / "spec.json").write_text(SPEC.model_dump_json())
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(checkpoint), str(out)], cwd=ROOT, check=False
    )
    assert child.returncode == -signal.SIGKILL
    assert (out / "tuning_state" / "step4").is_dir()
    assert not (out / "adapter").exists()
    # Loaded for every attempt, as the step does: weights in a mapped file have their place there.
    for folder in (finished, out):
        loaded, family, _ = load_checkpoint(checkpoint, "cpu", "float32")
        seen = []
        tune(
            loaded,
            family,
            *samples,
            SPEC,
            base="c0ffee",
            name="main step5",
            out=folder,
            on_progress=lambda at, num_steps, message, seen=seen: seen.append(at),
        )
        assert seen[0] == (1 if folder == finished else 5)
    assert contents(out) == contents(finished)


def test_states_are_written_at_intervals(tuned, tmp_path):
    with pytest.raises(Stopped):
        tuned(on_progress=stop_at(8), save_every=3600.0)
    assert not (tmp_path / "out" / "tuning_state").exists()


def test_a_tuning_stopped_while_it_wrote_the_adapter_only_writes_it_again(tuned, tmp_path):
    _, files = tuned(out="finished")
    with pytest.raises(Stopped):
        tuned(on_progress=stop_at(9))
    for half in (".adapter.tmp", "adapter"):
        (tmp_path / "out" / half).mkdir()
        (tmp_path / "out" / half / "adapter_model.safetensors").write_bytes(b"half")
    _, others = tuned()
    assert others == files


def test_another_environment_begins_again(tuned, tmp_path):
    _, files = tuned(out="finished")
    with pytest.raises(Stopped):
        tuned(on_progress=stop_at(6))
    (header,) = (tmp_path / "out" / "tuning_state").glob("*/state.json")
    state = json.loads(header.read_text())
    assert state["environment"] | {"device": "cpu", "threads": 1} == state["environment"]
    state["environment"]["peft"] = "0.1"
    header.write_text(json.dumps(state))
    seen = []
    _, others = tuned(on_progress=lambda at, num_steps, message: seen.append(at))
    assert seen[0] == 1
    assert others == files


@pytest.mark.parametrize("change", [{"spec": SPEC.model_copy(update={"seed": 1})}, {"base": "b"}])
def test_the_folder_of_another_tuning_is_refused(tuned, change):
    with pytest.raises(Stopped):
        tuned(on_progress=stop_at(6))
    with pytest.raises(ValueError, match=r"out holds another tuning \(checkpoint, samples or"):
        tuned(**change)


# ---------------------------------------------------------------- what is refused


def test_samples_without_answers_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"sample 0 .* has no token whose loss counts"):
        tune(model, OLMOE, [[1, 2]], [[True, False]], SPEC, base="b", name="n", out=tmp_path)


def test_after_an_error_the_model_is_as_it_came(model, tuned):
    names = list(model.state_dict())
    with pytest.raises(Stopped):
        tuned(on_progress=stop_at(1))
    assert list(model.state_dict()) == names
    assert not model.training
