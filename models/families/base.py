"""What grokpath has to know about a family of mixture-of-experts models.

Shape suffixes: T tokens, K experts, A experts executed per token, D hidden size, V vocabulary.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class MoeLayer:
    """One mixture-of-experts layer of a model.

    Attributes
    ----------
    name
        Name of the router inside the model, for messages.
    router
        Module whose output holds the router logits.
    experts
        Module that is called with the ids of the experts to execute.
    """

    name: str
    router: nn.Module
    experts: nn.Module


class Family(ABC):
    """How to read the routing of one family; subclasses say where things are.

    The defaults fit families whose router is a linear map followed by a softmax over all experts.
    A family with sigmoid gates overrides :meth:`routing_weights`; one that scales its logits
    overrides :meth:`logits`; dense layers simply do not appear in :meth:`moe_layers`.
    """

    @abstractmethod
    def moe_layers(self, model: PreTrainedModel) -> list[MoeLayer]:
        """Mixture-of-experts layers, first to last."""

    @abstractmethod
    def router_logits(self, output: Any) -> torch.Tensor:
        """Raw router logits [T, K] in what the router's forward returned."""

    @abstractmethod
    def executed_experts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Ids [T, A] of the executed experts in what the experts module was called with."""

    @abstractmethod
    def router_weight(self, router: nn.Module) -> torch.Tensor:
        """Weight [K, D] of a router; row k is the embedding of expert k."""

    @abstractmethod
    def top_k(self, model: PreTrainedModel) -> int:
        """Experts executed per token."""

    def routing_weights(self, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Routing weights [T, K]: softmax over all experts, before top-k, in float32.

        arXiv 2506.21551, sec. 4.1.
        """
        return router_logits_TK.float().softmax(dim=-1)

    def logits(self, model: PreTrainedModel, hidden_TD: torch.Tensor) -> torch.Tensor:
        """Next-token logits [T, V] of final hidden states."""
        logits: torch.Tensor = model.get_output_embeddings()(hidden_TD)
        return logits
