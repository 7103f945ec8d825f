"""What holds for every family, on a tiny random model of its real class.

Shape suffixes: N samples, T tokens, L MoE layers, K experts, A experts executed per token, D hidden
size.
"""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.extraction import extract, router_weights
from models.families.registry import FAMILIES, describe, family_of
from models.loading import load_checkpoint

# Types whose first layer is dense in the tiny model, whose gate is a sigmoid, and, for those that
# choose within groups of experts, how many of a group's scores make the group's.
DENSE_FIRST = {
    *("cohere2_moe", "deepseek_v2", "deepseek_v3", "glm4_moe", "laguna"),
    *("qwen2_moe", "qwen3_moe"),
}
BY_SIGMOID = {"deepseek_v3", "glm4_moe", "laguna"}
IN_GROUPS = {"deepseek_v2": 1, "deepseek_v3": 2, "glm4_moe": 2}


def place_of_router(model_type):
    if model_type == "gpt_oss":
        return "mlp.router"
    return "block_sparse_moe.router" if "granite" in model_type else "mlp.gate"


def blocks_of(model, model_type):
    """(router, experts, block) of each layer with experts, by names written here."""
    block, router = place_of_router(model_type).split(".")
    layers = model.model.layers[model_type in DENSE_FIRST :]
    blocks = [layer.get_submodule(block) for layer in layers]
    return [(block.get_submodule(router), block.experts, block) for block in blocks]


def slow_gate(model_type, logits_TK):
    scores = 1 / (1 + np.exp(-logits_TK)) if model_type in BY_SIGMOID else np.exp(logits_TK)
    return scores / scores.sum(axis=1, keepdims=True)


def slow_choice(model_type, router, logits_K):
    """Ids of the experts that one token executes."""
    scores = list(logits_K)
    if model_type in BY_SIGMOID:
        bias = router.e_score_correction_bias.tolist()
        scores = [1 / (1 + np.exp(-x)) + b for x, b in zip(logits_K, bias, strict=True)]
    allowed = set(range(6))
    if model_type in IN_GROUPS:
        size = 6 // router.num_group
        groups = [range(first, first + size) for first in range(0, 6, size)]
        worth = [
            sum(sorted(scores[k] for k in group)[-IN_GROUPS[model_type] :]) for group in groups
        ]
        best = sorted(range(len(groups)), key=lambda i: -worth[i])[: router.topk_group]
        allowed = {k for i in best for k in groups[i]}
    return set(sorted(allowed, key=lambda k: -scores[k])[:2])


@pytest.fixture
def by_hand(moe, moe_type, samples):
    """Mean gates [N, L, K] of each sample alone, and of each token its slow and its real choice."""
    model, _ = moe
    inputs, executed = {}, {}
    blocks = blocks_of(model, moe_type)
    for place, (_, experts, block) in enumerate(blocks):
        block.register_forward_pre_hook(lambda m, args, i=place: inputs.update({i: args[0]}))
        experts.register_forward_pre_hook(lambda m, args, i=place: executed.update({i: args[1]}))
    weights_NLK, choices = [], []
    for ids in samples[0]:
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]), use_cache=False)
        rows = []
        for place, (router, _, _) in enumerate(blocks):
            logits_TK = inputs[place][0].double() @ router.weight.detach().double().T
            if moe_type == "gpt_oss":
                logits_TK = logits_TK + router.bias.detach().double()
            rows.append(slow_gate(moe_type, logits_TK.numpy()).mean(axis=0))
            for token, logits_K in enumerate(logits_TK.tolist()):
                slow = slow_choice(moe_type, router, logits_K)
                choices.append((slow, set(executed[place][token].tolist())))
        weights_NLK.append(rows)
    for _, experts, block in blocks:
        block._forward_pre_hooks.clear()
        experts._forward_pre_hooks.clear()
    return np.array(weights_NLK), choices


def test_routing_equals_a_slow_product(moe, samples, by_hand):
    found = extract(*moe, *samples, batch_size=4)
    np.testing.assert_allclose(found.routing_weights_NLK, by_hand[0], atol=1e-5)
    np.testing.assert_allclose(found.routing_weights_NLK.sum(-1), 1, atol=1e-5)


def test_the_module_executes_what_a_slow_choice_says(by_hand):
    assert all(slow == real for slow, real in by_hand[1])
    assert len(by_hand[1]) > 100
    assert len({frozenset(real) for _, real in by_hand[1]}) > 3


def test_padding_side_and_batch_size_do_not_matter(moe, samples, by_hand):
    alone = extract(*moe, *samples, batch_size=1)
    for side in ("left", "right"):
        found = extract(*moe, *samples, batch_size=9, padding_side=side)
        np.testing.assert_allclose(found.routing_weights_NLK, by_hand[0], atol=1e-5)
        np.testing.assert_allclose(found.losses_N, alone.losses_N, atol=1e-5)


def test_bfloat16_passes_the_check(moe_type, folder_of, samples):
    model, family, _ = load_checkpoint(folder_of(moe_type), "cpu", "bfloat16")
    found = extract(model, family, *samples, batch_size=4)
    np.testing.assert_allclose(found.routing_weights_NLK.sum(-1), 1, atol=1e-3)


def test_logits_are_the_models_own(moe, samples):
    model, family = moe
    ids = torch.tensor([samples[0][1]])
    with torch.inference_mode():
        own = model(input_ids=ids, use_cache=False).logits[0]
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(family.logits(model, hidden[3:]), own[3:])


def test_layers_are_those_with_experts(moe, moe_type):
    model, family = moe
    place = place_of_router(moe_type)
    first = int(moe_type in DENSE_FIRST)
    names = [layer.name for layer in family.moe_layers(model)]
    assert names == [f"model.layers.{i}.{place}" for i in range(first, 3)]
    rows = [router.weight.detach().numpy() for router, _, _ in blocks_of(model, moe_type)]
    np.testing.assert_array_equal(router_weights(model, family), np.stack(rows))


def test_description_is_json(moe, moe_type):
    told = json.loads(json.dumps(describe(*moe)))
    assert (told["model_type"], told["num_experts"], told["top_k"]) == (moe_type, 6, 2)
    assert not told["virtual_experts"]


def test_checkpoints_run_on_the_grouped_back_end(moe):
    assert moe[0].config._experts_implementation == "grouped_mm"


def test_expert_weights_do_what_an_expert_does(moe, moe_type):
    model, family = moe
    layer = family.moe_layers(model)[-1]
    weights = family.expert_weights(layer)
    if moe_type == "gpt_oss":  # biases, and a clamp in the gate
        assert weights is None
        return
    inputs_TD = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    for expert in range(6):
        ids = torch.full((5, 1), expert)
        gate, up = inputs_TD @ weights.gate_KID[expert].T, inputs_TD @ weights.up_KID[expert].T
        by_hand = (functional.silu(gate) * up) @ weights.down_KDI[expert].T
        torch.testing.assert_close(layer.experts(inputs_TD, ids, torch.ones(5, 1)), by_hand)


def test_experts_with_another_activation_have_no_closed_kernel(tiny):
    model = tiny("mixtral", hidden_act="gelu")
    family = family_of("mixtral")
    assert family.expert_weights(family.moe_layers(model)[0]) is None


@pytest.mark.parametrize("form", ["is_transposed", "has_bias", "has_post_expert_norm"])
def test_experts_of_another_form_have_no_closed_kernel(form, tiny):
    family = family_of("mixtral")
    layer = family.moe_layers(tiny("mixtral"))[0]
    assert family.expert_weights(layer) is not None
    setattr(layer.experts, form, True)  # as `use_experts_implementation` leaves it on a class
    assert family.expert_weights(layer) is None


def test_every_registered_family_is_tried_here(tiny_types):
    assert set(FAMILIES) <= tiny_types
