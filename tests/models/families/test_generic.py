"""Classes without a file of their own: read by what they declare, or refused with the reason."""

import numpy as np
import pytest
import torch

from models.extraction import extract
from models.families.generic import GenericFamily
from models.families.registry import FAMILIES, family_of
from models.routing import RoutingCheckError

BOTH_CAN = ["deepseek_v3", "flex_olmo", "gpt_oss", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"]
SMALL = {"num_local_experts": 6, "num_experts": 6, "moe_intermediate_size": 8, "head_dim": 8}


@pytest.mark.parametrize("model_type", ["glm4_moe", "cohere2_moe", "laguna"])
def test_a_class_that_declares_a_router_is_read_without_a_file(model_type):
    assert model_type not in FAMILIES
    assert isinstance(family_of(model_type), GenericFamily)


@pytest.mark.parametrize("model_type", ["gpt2", "bert", "mystery", ""])
def test_a_class_that_declares_none_is_refused(model_type):
    with pytest.raises(ValueError, match=rf"no family reads models of type '{model_type}'; known"):
        family_of(model_type)


@pytest.mark.parametrize("model_type", BOTH_CAN)
def test_it_agrees_with_the_family_that_knows(model_type, tiny, samples):
    model = tiny(model_type)
    known = extract(model, FAMILIES[model_type], *samples, batch_size=4)
    found = extract(model, GenericFamily(), *samples, batch_size=4)
    np.testing.assert_array_equal(found.routing_weights_NLK, known.routing_weights_NLK)
    np.testing.assert_allclose(found.losses_N, known.losses_N, atol=1e-6)


def test_its_logits_follow_scale_and_cap(tiny):
    model = tiny("granitemoe")
    hidden = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(
            GenericFamily().logits(model, hidden), model.lm_head(hidden) / 3.0
        )
    assert not model.model._forward_hooks


def test_deepseek_v2s_groups_are_not_guessed(tiny, samples):
    with pytest.raises(RoutingCheckError, match="executed other experts than those that the fam"):
        extract(tiny("deepseek_v2"), GenericFamily(), *samples, batch_size=4)


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("phimoe", "not in proportion to their routing weights"),  # jumps between two experts
        ("minimax_m2", "executed other experts than those"),  # its bias is not in the router
        ("hy_v3", "executed other experts than those"),  # neither is this one's
        ("afmoe", "executed other experts than those"),  # a bias under another name
    ],
)
def test_a_gate_that_is_another_is_refused(model_type, message, tiny, samples):
    with pytest.raises(RoutingCheckError, match=message):
        extract(tiny(model_type, **SMALL), family_of(model_type), *samples, batch_size=4)


@pytest.mark.parametrize(
    ("model_type", "options", "message"),
    [
        ("ernie4_5_moe", {"moe_num_experts": 6, "moe_k": 2}, "Router holds 2 matrices, expected"),
        ("jetmoe", {}, "declares 2 modules as the source of its router logits"),
        ("doge", {"is_moe": True}, "expected a module `experts` beside the router in DogeDecoder"),
        ("glm4_moe", {"first_k_dense_replace": 3}, "this model holds none: its configuration has"),
        ("glm4_moe", {"num_experts_per_tok": 1}, "executes 1 expert per token"),
    ],
)
def test_what_cannot_be_read_is_refused(model_type, options, message, tiny):
    family, model = family_of(model_type), tiny(model_type, **options)
    with pytest.raises(ValueError, match=message):
        family.moe_layers(model)


def test_layers_of_different_shape_are_refused(tiny):
    model = tiny("glm4_moe")
    router = model.model.layers[1].mlp.gate
    router.weight = torch.nn.Parameter(router.weight[:4])
    with pytest.raises(ValueError, match=r"matrices of shapes \[\(4, 16\), \(6, 16\)\], expected"):
        GenericFamily().moe_layers(model)


def test_a_matrix_with_more_rows_than_logits_is_refused(tiny, samples):
    model = tiny("glm4_moe")
    gate = model.model.layers[1].mlp.gate
    gate.register_forward_hook(lambda module, args, output: (output[0][:, :5], *output[1:]))
    with pytest.raises(RoutingCheckError, match=r"returns 5 logits per token, its matrix has 6 ro"):
        extract(model, GenericFamily(), *samples, batch_size=4)
