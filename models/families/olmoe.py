"""OLMoE (allenai/OLMoE-1B-7B-0924, arXiv 2409.02060), and with it the nano model."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock

from models.families.base import ExpertWeights, Family, MoeLayer


class OlmoeFamily(Family):
    """Softmax over all experts, then top-k; every layer has experts."""

    def moe_layers(self, model: PreTrainedModel) -> list[MoeLayer]:
        """Blocks in the order in which the model holds its layers."""
        return [
            MoeLayer(f"{name}.gate", block.gate, block.experts)
            for name, block in model.named_modules()
            if isinstance(block, OlmoeSparseMoeBlock)
        ]

    def router_logits(self, args: tuple[Any, ...], output: Any) -> torch.Tensor:
        """First of (router logits, top-k weights, top-k ids)."""
        logits: torch.Tensor = output[0]
        return logits

    def executed_experts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Second argument of `experts(hidden_states, top_k_index, top_k_weights)`."""
        ids: torch.Tensor = kwargs["top_k_index"] if "top_k_index" in kwargs else args[1]
        return ids

    def router_weight(self, router: nn.Module) -> torch.Tensor:
        """The router is one matrix without bias."""
        weight: torch.Tensor = router.weight
        return weight

    def expert_weights(self, layer: MoeLayer) -> ExpertWeights | None:
        """Experts are fused: gate over up [K, 2 I, D], and down [K, D, I]."""
        assert layer.experts is not None
        gate_KID, up_KID = layer.experts.gate_up_proj.chunk(2, dim=1)
        return ExpertWeights(gate_KID, up_KID, layer.experts.down_proj)

    def top_k(self, model: PreTrainedModel) -> int:
        """From the configuration."""
        return int(model.config.num_experts_per_tok)
