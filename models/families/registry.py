"""Which family reads which model: the one place where families are registered."""

from typing import Any

from transformers import PreTrainedModel

from models.families.base import Family
from models.families.deepseek_v2 import DeepseekV2Family
from models.families.deepseek_v3 import DeepseekV3Family
from models.families.flex_olmo import FlexOlmoFamily
from models.families.generic import GenericFamily, declares_a_router
from models.families.gpt_oss import GptOssFamily
from models.families.granitemoe import GraniteMoeFamily
from models.families.mixtral import MixtralFamily
from models.families.olmoe import OlmoeFamily
from models.families.qwen2_moe import Qwen2MoeFamily
from models.families.qwen3_moe import Qwen3MoeFamily
from models.families.virtual import VirtualFamily

# By `model_type`, as config.json names it.
FAMILIES: dict[str, Family] = {
    "deepseek_v2": DeepseekV2Family(),
    "deepseek_v3": DeepseekV3Family(),
    "flex_olmo": FlexOlmoFamily(),
    "gpt_oss": GptOssFamily(),
    "granitemoe": GraniteMoeFamily(),
    "granitemoe_swa": GraniteMoeFamily(),
    "granitemoehybrid": GraniteMoeFamily(),
    "granitemoeshared": GraniteMoeFamily(),
    "mixtral": MixtralFamily(),
    "olmoe": OlmoeFamily(),
    "qwen2_moe": Qwen2MoeFamily(),
    "qwen3_moe": Qwen3MoeFamily(),
}
DENSE = ("gemma", "llama", "mistral", "olmo", "olmo2", "olmo3", "qwen2", "qwen3")
"""Dense model types with gated MLPs, read through virtual experts."""

VIRTUAL_EXPERTS = 8


def family_of(model_type: str, virtual_experts: int = VIRTUAL_EXPERTS) -> Family:
    """Family that reads models of this `model_type` (see config.json).

    A registered family first; then, for a type whose transformers class names its router, the
    generic one.

    Parameters
    ----------
    model_type
        As in config.json.
    virtual_experts
        Blocks of neurons per layer that count as experts where the model is dense.

    Raises
    ------
    ValueError
        When no family is registered for it and its class names no router; names the type found
        and the types known.

    Examples
    --------
    >>> type(family_of("olmoe")).__name__
    'OlmoeFamily'
    """
    if model_type in DENSE:
        return VirtualFamily(virtual_experts)
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    if declares_a_router(model_type):
        return GenericFamily()
    raise ValueError(
        f"no family reads models of type {model_type!r}; known types: "
        f"{', '.join(sorted([*FAMILIES, *DENSE]))}. A new one is a file in models/families/ "
        "and a line in models/families/registry.py"
    )


def describe(model: PreTrainedModel, family: Family) -> dict[str, Any]:
    """Shape of a model as a record keeps it: JSON values only."""
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
