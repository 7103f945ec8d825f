import math
import shutil

import pytest

from models.weight_norms import kind_of, weight_norms


def test_norms_are_those_of_the_loaded_models_weights(model, tmp_path):
    model.save_pretrained(tmp_path)
    found = weight_norms(tmp_path)
    assert set(found) == {"router", "expert", "attention", "other"}
    squares, counts = {}, {}
    for name, weight in model.named_parameters():
        kind = (
            "router"
            if name.endswith("gate.weight")
            else "expert"
            if ".experts." in name
            else "attention"
            if "self_attn" in name
            else "other"
        )
        squares[kind] = squares.get(kind, 0) + weight.detach().double().square().sum().item()
        counts[kind] = counts.get(kind, 0) + weight.numel()
    for kind, one in found.items():
        assert one.norm == pytest.approx(math.sqrt(squares[kind]))
        assert one.num_parameters == counts[kind]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.0.block_sparse_moe.gate.weight", "router"),
        ("model.layers.3.mlp.router.weight", "router"),
        ("model.layers.0.mlp.experts.7.down_proj.weight", "expert"),
        ("model.layers.0.mlp.shared_experts.up_proj.weight", "expert"),
        ("model.layers.0.self_attn.q_norm.weight", "attention"),
        ("model.embed_tokens.weight", "other"),
    ],
)
def test_kinds_by_name(name, kind):
    assert kind_of(name) == kind


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no weights: expected model\.safetensors"):
        weight_norms(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0broken")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        weight_norms(tmp_path)


def test_other_tensors_beside_the_weights_are_not_added(model, tmp_path):
    model.save_pretrained(tmp_path)
    alone = weight_norms(tmp_path)
    for name in ("consolidated.safetensors", "optimizer.safetensors"):
        shutil.copy(tmp_path / "model.safetensors", tmp_path / name)
    assert weight_norms(tmp_path) == alone
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "model-00001-of-00001.safetensors")
    with pytest.raises(ValueError, match="two sets of weights"):
        weight_norms(tmp_path)


def test_kinds_of_the_families_names():
    names = {
        "model.layers.0.block_sparse_moe.router.layer.weight": "router",
        "model.layers.0.block_sparse_moe.gate.weight": "router",
        "model.layers.0.mlp.router.bias": "router",
        "model.layers.0.block_sparse_moe.input_linear.weight": "expert",
        "model.layers.0.block_sparse_moe.experts.3.w1.weight": "expert",
        "model.layers.0.shared_mlp.output_linear.weight": "expert",
        "model.layers.0.mlp.shared_experts.gate_proj.weight": "expert",
        "model.layers.0.self_attn.q_proj.weight": "attention",
        "model.embed_tokens.weight": "other",
    }
    assert {name: kind_of(name) for name in names} == names
