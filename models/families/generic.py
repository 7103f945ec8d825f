"""Any other mixture of experts: read by its class' own declaration, accepted only if verified.

The router's parts decide which of two rules is tried; the self-check (:mod:`models.routing`) then
compares it, layer by layer, with the product of the router's matrix, the experts that ran and the
factors of their outputs. It refuses a class with another gate.
"""

from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from models.families.base import MoeLayer
from models.families.declared import DeclaredFamily
from models.families.deepseek import DeepseekV3Family
from models.routing import RoutingCheckError

_BY_SIGMOID = DeepseekV3Family()


class GenericFamily(DeclaredFamily):
    """DeepSeek-V3's rule where the router holds `e_score_correction_bias`, else a softmax.

    Groups of experts count where the router has them.
    """

    def moe_layers(self, model: PreTrainedModel) -> list[MoeLayer]:
        """Layers of the declared class, all of one shape and with two experts or more per token."""
        layers = super().moe_layers(model)
        shapes = {tuple(self.router_weight(layer.router).shape) for layer in layers}
        if len(shapes) > 1:
            raise ValueError(
                f"{type(model).__name__}: routers have matrices of shapes {sorted(shapes)}, "
                "expected one shape [experts, hidden size] for all layers"
            )
        if self.top_k(model) < 2:
            raise ValueError(
                f"{type(model).__name__} executes 1 expert per token; the factors of 2 or more "
                "identify the gate, one does not. Write a family for "
                f"{model.config.model_type} (docs/families.md)"
            )
        return layers

    def router_logits(self, layer: MoeLayer, args: tuple[Any, ...], output: Any) -> torch.Tensor:
        """The declared place of what the router returns, one logit per row of its matrix."""
        logits_TK = super().router_logits(layer, args, output)
        num_rows = len(self.router_weight(layer.router))
        if logits_TK.shape[-1] != num_rows:
            raise RoutingCheckError(
                f"{layer.name}: the router returns {logits_TK.shape[-1]} logits per token, its "
                f"matrix has {num_rows} rows, expected one for each expert that can be chosen; "
                "write a family for it (docs/families.md)"
            )
        return logits_TK

    def top_k(self, model: PreTrainedModel) -> int:
        """From the configuration, as one number for all layers."""
        found = getattr(model.config, "num_experts_per_tok", None)
        if not isinstance(found, int):
            raise ValueError(
                f"{type(model.config).__name__}: num_experts_per_tok is {found}, expected a number;"
                f" write a family for {model.config.model_type} (docs/families.md)"
            )
        return found

    def router_weight(self, router: nn.Module) -> torch.Tensor:
        """The only matrix in the router."""
        matrices = [weight for weight in router.parameters() if weight.ndim == 2]
        if len(matrices) != 1:
            raise ValueError(
                f"{type(router).__name__} holds {len(matrices)} matrices, expected one [experts, "
                "hidden size] whose rows are the experts' embeddings; write a family for it "
                "(docs/families.md)"
            )
        return matrices[0]

    def routing_weights(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """By the rule that fits the router."""
        if _is_biased(layer):
            return _BY_SIGMOID.routing_weights(layer, router_logits_TK)
        return super().routing_weights(layer, router_logits_TK)

    def selection_scores(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """By the rule that fits the router."""
        if not _is_biased(layer):
            return super().selection_scores(layer, router_logits_TK)
        if not hasattr(layer.router, "num_group"):
            return router_logits_TK.float().sigmoid() + layer.router.e_score_correction_bias
        return _BY_SIGMOID.selection_scores(layer, router_logits_TK)

    def logits(self, model: PreTrainedModel, hidden_TD: torch.Tensor) -> torch.Tensor:
        """The class' own logits of final hidden states, with whatever it scales or caps."""

        def replaced(module: nn.Module, args: tuple, output: Any) -> Any:
            output.last_hidden_state = hidden_TD[None]
            return output

        # One token is run for its output object; its hidden state is then replaced.
        handle = model.base_model.register_forward_hook(replaced)
        try:
            token = torch.zeros(1, 1, dtype=torch.long, device=hidden_TD.device)
            logits: torch.Tensor = model(input_ids=token, use_cache=False).logits
        finally:
            handle.remove()
        return logits[0]


def declares_a_router(model_type: str) -> bool:
    """Whether transformers' causal language model of this type names its router."""
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    if name is None:
        return False
    return "router_logits" in (getattr(transformers, name)._can_record_outputs or {})


def _is_biased(layer: MoeLayer) -> bool:
    return hasattr(layer.router, "e_score_correction_bias")
