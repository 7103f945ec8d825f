"""The shape of a model that was never built."""

import json
from dataclasses import replace

import pytest
from transformers import OlmoeConfig

from models.flops import OLMOE_1B_7B
from models.nano.model import build_model
from models.shape import model_shape, nano_shape
from studies.nano_model import NanoModelSpec


def test_olmoe_1b_7b_has_the_published_size():
    """arXiv 2409.02060: 6.9 B parameters, of which 1.3 B are active; hidden 2048, 16 layers."""
    config = OlmoeConfig(
        vocab_size=50304,
        hidden_size=2048,
        intermediate_size=1024,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_experts=64,
        num_experts_per_tok=8,
    )
    shape = model_shape(config)
    assert round(shape.num_parameters / 1e9, 1) == 6.9
    assert round(shape.num_active / 1e9, 1) == 1.3
    assert (shape.num_moe_layers, shape.num_experts) == (16, 64)
    assert shape.attention_width == 16 * 2 * 2048
    widths = {name: shape.linear_widths[name] for name in OLMOE_1B_7B.linear_widths}
    assert replace(shape, linear_widths=widths) == OLMOE_1B_7B


def test_a_folder_needs_no_weights(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    shape = model_shape(tmp_path)
    assert shape.num_parameters == sum(weight.numel() for weight in model.parameters())
    experts = sum(w.numel() for name, w in model.named_parameters() if ".experts." in name)
    assert shape.num_active == shape.num_parameters - experts * 4 // 6


def test_all_experts_chosen_means_all_parameters_active():
    shape = nano_shape(NanoModelSpec(num_experts=4, top_k=4), vocabulary=50)
    assert shape.num_active == shape.num_parameters


@pytest.mark.parametrize("dense", [False, True])
def test_a_nano_model_is_as_large_as_the_real_one(dense):
    spec = NanoModelSpec(dense=dense)
    real = build_model(spec, 234, seed=0)
    shape = nano_shape(spec, vocabulary=234)
    assert shape.num_parameters == sum(weight.numel() for weight in real.parameters())
    assert (shape.num_moe_layers, shape.num_experts) == (4, 8)
    assert shape.vocabulary == 234


def test_every_parameter_of_a_dense_model_is_active():
    shape = nano_shape(NanoModelSpec(dense=True), vocabulary=50)
    assert shape.num_active == shape.num_parameters


def test_an_unknown_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(ValueError, match="no_such_model"):
        model_shape(tmp_path)
