"""The shape of a model from its configuration alone: built without memory for its weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from models.families.base import Family
from models.families.registry import VIRTUAL_EXPERTS, family_of
from models.flops import ModelShape
from models.nano.model import build_model
from studies.nano_model import NanoModelSpec


def model_shape(
    config: Path | PretrainedConfig, virtual_experts: int = VIRTUAL_EXPERTS
) -> ModelShape:
    """Shape of the causal language model that a configuration describes; no weights are read.

    Parameters
    ----------
    config
        A folder with config.json, or a configuration. Code beside it never runs.
    virtual_experts
        Blocks of neurons that count as experts of a layer where the model is dense.

    Raises
    ------
    ValueError
        When transformers cannot read the configuration, or no family reads such models.
    """
    if isinstance(config, Path):
        config = AutoConfig.from_pretrained(config, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return shape_of(model, family_of(config.model_type, virtual_experts))


def nano_shape(
    spec: NanoModelSpec, vocabulary: int, virtual_experts: int = VIRTUAL_EXPERTS
) -> ModelShape:
    """Shape of the nano model of a study."""
    with torch.device("meta"):
        model = build_model(spec, vocabulary, seed=0)
    return shape_of(model, family_of(model.config.model_type, virtual_experts))


def shape_of(model: PreTrainedModel, family: Family) -> ModelShape:
    """Shape of a model that is there, on whatever device."""
    layers = family.moe_layers(model)
    num_experts, hidden_size = family.router_weight(layers[0].router).shape
    experts = [layer.experts for layer in layers if layer.experts is not None]
    of_experts = {id(weight) for module in experts for weight in module.parameters()}
    share = 1.0 if family.virtual else family.top_k(model) / num_experts
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    looked_up = {id(weight) for module in (embedding, output) for weight in module.parameters()}

    num_active, num_multiplied = 0.0, 0.0
    for weight in model.parameters():
        expert = id(weight) in of_experts
        active = weight.numel() * (share if expert else 1.0)
        num_active += active
        # Of fused experts a matrix has three dimensions, a bias two.
        if weight.ndim >= (3 if expert else 2) and id(weight) not in looked_up:
            num_multiplied += active
    text = model.config.get_text_config()
    return ModelShape(
        num_parameters=sum(weight.numel() for weight in model.parameters()),
        num_active=round(num_active),
        num_multiplied=round(num_multiplied),
        attention_width=text.num_hidden_layers * _attention_width(text),
        num_moe_layers=len(layers),
        num_experts=num_experts,
        hidden_size=hidden_size,
        vocabulary=text.vocab_size,
        linear_widths=_linear_widths(model),
    )


def _attention_width(config: Any) -> int:
    """Width of a layer's queries and values over all heads; windows count as if they were open."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    query = getattr(config, "qk_head_dim", None) or head
    value = getattr(config, "v_head_dim", None) or head
    return int(config.num_attention_heads * (query + value))


def _linear_widths(model: PreTrainedModel) -> dict[str, int]:
    widths: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            last = name.rpartition(".")[2]
            widths[last] = widths.get(last, 0) + module.in_features + module.out_features
    return widths
