"""Routing that is not its family's is refused before anything is stored."""

import pytest
import torch

from models.extraction import extract
from models.families.registry import family_of
from models.routing import RoutingCheckError

BIASED = ["deepseek_v3", "glm4_moe", "laguna"]
GROUPED = ["deepseek_v2", "deepseek_v3", "glm4_moe"]
NORMALISED = ["flex_olmo", "mixtral"]


def tampered(moe, change):
    """The last router returns what `change` makes of its (logits, factors, ids)."""
    model, family = moe
    router = family.moe_layers(model)[-1].router
    original = router.forward
    router.forward = lambda hidden: change(*original(hidden))
    return model, family


def refused(moe, samples, message):
    with pytest.raises(RoutingCheckError, match=message):
        extract(*moe, *samples, batch_size=4)


def test_a_softmax_before_ours_is_refused(moe, samples):
    moe = tampered(moe, lambda logits, factors, ids: (logits.softmax(-1), factors, ids))
    refused(moe, samples, r"captured probabilities, expected raw router logits")


def test_a_sigmoid_before_ours_is_refused(moe, samples):
    moe = tampered(moe, lambda logits, factors, ids: (logits.sigmoid(), factors, ids))
    refused(moe, samples, r"differ by up to \S+ from the product of the router's input and weight")


def test_fewer_experts_than_configured_are_refused(moe, samples):
    moe = tampered(moe, lambda logits, factors, ids: (logits, factors[:, :1], ids[:, :1]))
    refused(moe, samples, r"executed 1 experts per token, expected 2, as in its configuration")


def test_other_experts_are_refused(moe, samples):
    moe = tampered(moe, lambda logits, factors, ids: (logits, factors, (ids + 1) % 6))
    refused(moe, samples, r"40 of 40 tokens executed other experts than those that the family")


def test_factors_of_a_softmax_of_a_softmax_are_refused(moe, samples):
    def twice(logits, factors, ids):
        return logits, logits.softmax(-1).softmax(-1).gather(-1, ids), ids

    refused(tampered(moe, twice), samples, r"are not in proportion to their routing weights")


def test_factors_of_the_other_gate_are_refused(moe, moe_type, samples):
    def other(logits, factors, ids):
        gate = logits.softmax(-1) if moe_type in BIASED else logits.sigmoid()
        return logits, gate.gather(-1, ids), ids

    refused(tampered(moe, other), samples, r"on \d+ of \d+ tokens the outputs .* another than the")


def test_factors_may_have_any_scale(moe, samples):
    straight = extract(*moe, *samples, batch_size=4)
    scaled = tampered(moe, lambda logits, factors, ids: (logits, 7 * factors, ids))
    found = extract(*scaled, *samples, batch_size=4)
    assert (found.routing_weights_NLK[:, 0] == straight.routing_weights_NLK[:, 0]).all()


@pytest.mark.parametrize("moe_type", BIASED, indirect=True)
def test_a_choice_without_the_bias_is_refused(moe, samples):
    model, family = moe
    router = family.moe_layers(model)[0].router
    original = router.forward

    def without_bias(hidden):
        kept = router.e_score_correction_bias.clone()
        router.e_score_correction_bias.data.zero_()
        output = original(hidden)
        router.e_score_correction_bias.data.copy_(kept)
        return output

    router.forward = without_bias
    refused(moe, samples, r"tokens executed other experts than those that the family chooses")


@pytest.mark.parametrize("moe_type", GROUPED, indirect=True)
def test_a_choice_across_all_groups_is_refused(moe, samples):
    model, family = moe
    router = family.moe_layers(model)[0].router
    original, num_kept = router.forward, router.topk_group

    def across(hidden):
        router.topk_group = router.num_group
        output = original(hidden)
        router.topk_group = num_kept
        return output

    router.forward = across
    refused(moe, samples, r"tokens executed other experts than those that the family chooses")


@pytest.mark.parametrize("moe_type", ["gpt_oss"], indirect=True)
def test_logits_without_the_routers_bias_are_refused(moe, samples):
    model, family = moe
    router = family.moe_layers(model)[0].router
    tampered(moe, lambda logits, factors, ids: (logits - router.bias, factors, ids))
    refused(moe, samples, r"from the product of the router's input and weight")


@pytest.mark.parametrize("moe_type", ["mixtral"], indirect=True)
def test_experts_called_in_another_way_are_refused(moe, samples):
    model, family = moe
    experts = family.moe_layers(model)[0].experts
    forward = experts.forward
    experts.forward = lambda hidden, ids, factors, more: forward(hidden, ids, factors)
    block = model.model.layers[0].mlp
    block.forward = lambda hidden: experts(hidden[0], *block.gate(hidden)[:0:-1], None)[None]
    refused(moe, samples[:2], r"its experts were called with float32 \[12, 16\], int64 .* NoneType")


@pytest.mark.parametrize("model_type", ["olmoe", *NORMALISED])
def test_one_expert_per_token_is_compared_between_tokens(model_type, tiny, samples):
    options = {"norm_topk_prob": True} if model_type == "flex_olmo" else {}
    model = tiny(model_type, num_experts_per_tok=1, **options)
    family = family_of(model_type)
    extract(model, family, *samples, batch_size=4)

    def other(logits, factors, ids):
        return logits, logits.sigmoid().gather(-1, ids), ids

    refused(tampered((model, family), other), samples, r"another than the family's")


def test_factors_that_are_not_numbers_are_refused(tiny, samples):
    moe = tiny("olmoe"), family_of("olmoe")
    moe = tampered(moe, lambda logits, factors, ids: (logits, torch.nan * factors, ids))
    refused(moe, samples, r"on \d+ of \d+ tokens .* the model used nan, nan")
