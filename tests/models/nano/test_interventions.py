"""What the fields of an intervention do to the nano model, and that the default does nothing."""

import pytest
import torch
from safetensors.torch import load_file

from models.nano.training import mean_routing_entropy, train
from studies.nano_model import PretrainingSpec


def trained(tiny_spec, tiny_corpus, out, **changes):
    model = tiny_spec.model.model_copy(update=changes.pop("model", {}))
    spec = PretrainingSpec.model_validate(
        tiny_spec.model_copy(update={**changes, "model": model}).model_dump()
    )
    train(spec, tiny_corpus, shuffle_answers=False, out=out)
    folders = sorted(
        (out / "checkpoints").iterdir(),
        key=lambda f: int(f.name.split("-")[0].removeprefix("step")),
    )
    return [load_file(folder / "model.safetensors") for folder in folders]


def test_the_entropy_penalty_sharpens_and_its_opposite_flattens(tiny_spec, tiny_corpus, tmp_path):
    def spread(weights):
        return sum(w.std().item() for name, w in weights.items() if name.endswith("gate.weight"))

    last = {
        penalty: trained(tiny_spec, tiny_corpus, tmp_path / str(penalty), entropy_penalty=penalty)[
            -1
        ]
        for penalty in (-2.0, 0.0, 2.0)
    }
    assert spread(last[-2.0]) < spread(last[0.0]) < spread(last[2.0])


def test_dropped_experts_are_zero_from_their_step_on(tiny_spec, tiny_corpus, tmp_path):
    steps = tiny_spec.checkpoint_steps
    found = trained(
        tiny_spec, tiny_corpus, tmp_path / "a", dropped_experts=1, drop_step=max(steps[1], 1)
    )
    for step, weights in zip(steps, found, strict=True):
        experts = [w for name, w in weights.items() if ".experts." in name]
        first = [w for name, w in weights.items() if ".experts.0." in name] or [
            w[0] for w in experts
        ]
        assert all((w == 0).all() for w in first) == (step >= max(steps[1], 1)), step
        assert any((w != 0).any() for w in experts)


def test_the_dense_twin_trains(tiny_spec, tiny_corpus, tmp_path):
    found = trained(tiny_spec, tiny_corpus, tmp_path, model={"dense": True})
    names = set(found[-1])
    assert not any("expert" in name or name.endswith("gate.weight") for name in names)
    width = tiny_spec.model.top_k * tiny_spec.model.intermediate_size
    assert found[-1]["model.layers.0.mlp.gate_proj.weight"].shape[0] == width
    assert any(not torch.equal(found[0][name], found[-1][name]) for name in names)


def test_entropy_of_uniform_and_decided_routers():
    assert mean_routing_entropy([torch.zeros(4, 8)] * 2).item() == pytest.approx(2.0794, abs=1e-4)
    decided = torch.zeros(4, 8)
    decided[:, 0] = 100
    assert mean_routing_entropy([decided]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dropped_experts": 99}, "only fewer than all"),
        ({"dropped_experts": 1, "drop_step": 10**6}, "not before the last step"),
        ({"entropy_penalty": 0.1, "model": {"dense": True}}, "a dense model has no router"),
    ],
)
def test_interventions_that_cannot_be_are_refused(tiny_spec, tiny_corpus, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        trained(tiny_spec, tiny_corpus, tmp_path, **changes)
