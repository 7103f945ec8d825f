"""Which family reads which model: the one place where families are registered."""

from typing import Any

from transformers import PreTrainedModel

from models.families.base import Family
from models.families.olmoe import OlmoeFamily
from models.families.virtual import VirtualFamily

# By `model_type`, as config.json names it.
FAMILIES: dict[str, Family] = {
    "olmoe": OlmoeFamily(),
}
DENSE = ("gemma", "llama", "mistral", "olmo", "olmo2", "olmo3", "qwen2", "qwen3")
"""Dense model types with gated MLPs, read through virtual experts."""

VIRTUAL_EXPERTS = 8


def family_of(model_type: str, virtual_experts: int = VIRTUAL_EXPERTS) -> Family:
    """Family that reads models of this `model_type` (see config.json).

    Parameters
    ----------
    model_type
        As in config.json.
    virtual_experts
        Blocks of neurons per layer that count as experts where the model is dense.

    Raises
    ------
    ValueError
        When no family is registered for it; names the type found and the types known.

    Examples
    --------
    >>> type(family_of("olmoe")).__name__
    'OlmoeFamily'
    """
    if model_type in DENSE:
        return VirtualFamily(virtual_experts)
    if model_type not in FAMILIES:
        raise ValueError(
            f"no family reads models of type {model_type!r}; known types: "
            f"{', '.join(sorted([*FAMILIES, *DENSE]))}. A new one is a file in models/families/ "
            "and a line in models/families/registry.py"
        )
    return FAMILIES[model_type]


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
