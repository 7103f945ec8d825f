import numpy as np
import pytest
import torch

from models.extraction import router_weights
from models.families.declared import DeclaredFamily
from models.families.registry import FAMILIES, describe, family_of


def test_unknown_type_is_named_with_those_known():
    with pytest.raises(
        ValueError, match=r"type 'gpt2'; known types: .*olmoe.*\. A new one is registered in"
    ):
        family_of("gpt2")
    assert family_of("olmoe") is FAMILIES["olmoe"]


def test_layers_come_in_the_order_of_the_model(model):
    layers = DeclaredFamily().moe_layers(model)
    assert [layer.name for layer in layers] == [f"model.layers.{i}.mlp.gate" for i in range(3)]
    assert [layer.router for layer in layers] == [layer.mlp.gate for layer in model.model.layers]


def test_router_weights_are_the_gates(model):
    weights_LKD = router_weights(model, DeclaredFamily())
    assert (weights_LKD.shape, weights_LKD.dtype) == ((3, 6, 16), np.float32)
    for index, layer in enumerate(model.model.layers):
        np.testing.assert_array_equal(weights_LKD[index], layer.mlp.gate.weight.detach().numpy())


def test_routing_weights_are_a_softmax_over_all_experts(model):
    family = DeclaredFamily()
    layer = family.moe_layers(model)[0]
    weights = family.routing_weights(layer, torch.tensor([[0.0, 0.0, np.log(2.0)]]))
    assert weights.tolist() == [pytest.approx([0.25, 0.25, 0.5])]
    half = family.routing_weights(layer, torch.zeros(1, 4, dtype=torch.bfloat16))
    assert half.dtype == torch.float32


def test_executed_experts_are_read_by_place_or_by_name(model):
    hidden, ids, factors = torch.zeros(1, 16), torch.tensor([[1, 0]]), torch.ones(1, 2)
    family = DeclaredFamily()
    layer = family.moe_layers(model)[0]
    by_name = {"top_k_index": ids, "top_k_weights": factors}
    for given in [((hidden, ids, factors), {}), ((hidden,), by_name)]:
        executed = family.executed(layer, *given)
        assert executed.ids_TA is ids
        assert executed.factors_TA is factors


def test_description_is_json(model):
    assert describe(model, DeclaredFamily()) == {
        "model_type": "olmoe",
        "num_moe_layers": 3,
        "num_experts": 6,
        "top_k": 2,
        "hidden_size": 16,
        "virtual_experts": False,
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": "float32",
    }
