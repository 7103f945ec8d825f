"""Which family reads which model: the one place where families are registered."""

from typing import Any

from transformers import PreTrainedModel

from models.families.base import Family
from models.families.declared import DeclaredFamily
from models.families.deepseek import DeepseekV2Family, DeepseekV3Family
from models.families.generic import GenericFamily, declares_a_router
from models.families.granitemoe import GraniteMoeFamily
from models.families.virtual import VirtualFamily

_SOFTMAX, _GRANITE = DeclaredFamily(), GraniteMoeFamily()
FAMILIES: dict[str, Family] = {
    "deepseek_v2": DeepseekV2Family(),
    "deepseek_v3": DeepseekV3Family(),
    # FlexOlmo (arXiv 2507.07024). Data owners trained the rows of its router apart, which makes
    # them no other rows to the routing weights.
    "flex_olmo": _SOFTMAX,
    # GPT-OSS (arXiv 2508.10925, sec. 2.2): top-k of the logits, bias included, then a softmax over
    # the chosen, which have the same proportions in the softmax over all. Its gate,
    # x sigmoid(1.702 x), is clamped and biased: the experts have no closed tangent kernel here.
    "gpt_oss": _SOFTMAX,
    "granitemoe": _GRANITE,
    "granitemoe_swa": _GRANITE,
    "granitemoehybrid": _GRANITE,
    "granitemoeshared": _GRANITE,
    # Mixtral (arXiv 2401.04088, sec. 2.1): softmax over the top-k logits; proportions as above.
    "mixtral": _SOFTMAX,
    # OLMoE (arXiv 2409.02060, sec. 2, equation 1): top-k of the softmax, not normalised again. The
    # nano model is one.
    "olmoe": _SOFTMAX,
    # Qwen2-MoE and Qwen1.5-MoE (arXiv 2407.10671, sec. 2.2.2). Nothing chooses the shared expert,
    # which has a sigmoid gate of its own, so it is no expert of a pathway. Layers in
    # `mlp_only_layers`, or passed over by `decoder_sparse_step`, are dense and do not appear.
    "qwen2_moe": _SOFTMAX,
    # Qwen3-MoE (arXiv 2505.09388, sec. 2): the same without shared experts.
    "qwen3_moe": _SOFTMAX,
}
"""By `model_type`, as config.json names it."""
DENSE = ("gemma", "llama", "mistral", "olmo", "olmo2", "olmo3", "qwen2", "qwen3")
"""Dense model types with gated MLPs, read through virtual experts."""

VIRTUAL_EXPERTS = 8


def family_of(model_type: str, virtual_experts: int = VIRTUAL_EXPERTS) -> Family:
    """Family that reads models of this `model_type` (see config.json).

    A registered family first; then, for a type whose transformers class names its router, the
    generic one. A dense model has `virtual_experts` blocks of neurons per layer as its experts.

    Raises
    ------
    ValueError
        When no family is registered for it and its class names no router; names the type found
        and the types known.

    Examples
    --------
    >>> type(family_of("olmoe")).__name__
    'DeclaredFamily'
    """
    if model_type in DENSE:
        return VirtualFamily(virtual_experts)
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    if declares_a_router(model_type):
        return GenericFamily()
    raise ValueError(
        f"no family reads models of type {model_type!r}; known types: "
        f"{', '.join(sorted([*FAMILIES, *DENSE]))}. A new one is registered in "
        "models/families/registry.py (docs/families.md)"
    )


def describe(model: PreTrainedModel, family: Family) -> dict[str, Any]:
    """Shape of a model as JSON values, for records."""
    layers = family.moe_layers(model)
    num_experts, hidden_size = family.router_weight(layers[0].router).shape
    return {
        "model_type": model.config.model_type,
        "num_moe_layers": len(layers),
        "num_experts": num_experts,
        "top_k": family.top_k(model),
        "hidden_size": hidden_size,
        "virtual_experts": family.virtual,
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
    }
