"""How the routing of a family of mixture-of-experts models is read.

Shape suffixes: T tokens, K experts, A experts executed per token, D hidden size, V vocabulary,
I neurons of an expert.
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
        Module whose output holds the router logits, at position `place`.
    experts
        Module that is called with the ids of the experts to execute; None where they are virtual.
    top_k
        Experts executed per token.
    """

    name: str
    router: nn.Module
    experts: nn.Module | None
    top_k: int
    place: int = 0


@dataclass(frozen=True)
class ExpertWeights:
    """Weights of a layer's gated experts, down(silu(gate x) * up x); I neurons per expert."""

    gate_KID: torch.Tensor
    up_KID: torch.Tensor
    down_KDI: torch.Tensor


@dataclass(frozen=True)
class Executed:
    """The experts that a layer executed: ids [T, A], and the factor of each output."""

    ids_TA: torch.Tensor
    factors_TA: torch.Tensor


class Family(ABC):
    """How to read the routing of one family.

    The defaults fit families whose router is a linear map followed by a softmax over all experts.
    Dense layers do not appear in :meth:`moe_layers`. What a subclass returns is compared with what
    the model executed before anything is stored (:mod:`models.routing`).
    """

    virtual: bool = False
    """Whether experts are blocks of a dense MLP: nothing chooses among them."""

    @abstractmethod
    def moe_layers(self, model: PreTrainedModel) -> list[MoeLayer]:
        """Mixture-of-experts layers, first to last."""

    @abstractmethod
    def router_logits(self, layer: MoeLayer, args: tuple[Any, ...], output: Any) -> torch.Tensor:
        """Raw router logits [T, K] from what the router was called with and what it returned."""

    @abstractmethod
    def executed(self, layer: MoeLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Executed:
        """Experts that ran, from what the experts module was called with."""

    @abstractmethod
    def router_weight(self, router: nn.Module) -> torch.Tensor:
        """Weight [K, D] of a router; row k is the embedding of expert k."""

    @abstractmethod
    def top_k(self, model: PreTrainedModel) -> int:
        """Experts executed per token."""

    def router_bias(self, router: nn.Module) -> torch.Tensor | None:
        """Bias [K] that the router adds to its logits; None without one."""
        return None

    def block_input(self, args: tuple[Any, ...]) -> torch.Tensor | None:
        """Input [T, D] of the layer's block, given what its router was called with."""
        inputs: torch.Tensor = args[0]
        return inputs.reshape(-1, inputs.shape[-1])

    def expert_weights(self, layer: MoeLayer) -> ExpertWeights | None:
        """Weights of the layer's experts; None where they have another form."""
        return None

    def routing_weights(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Routing weights [T, K]: softmax over all experts, before top-k, in float32.

        arXiv 2506.21551, sec. 4.1. With another gate, too, rows sum to 1 and the factors of the
        executed experts are in proportion to their weights.
        """
        return router_logits_TK.float().softmax(dim=-1)

    def selection_scores(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Scores [T, K] of which the model executes the largest; -inf where it must not choose."""
        return self.routing_weights(layer, router_logits_TK)

    def logits(self, model: PreTrainedModel, hidden_TD: torch.Tensor) -> torch.Tensor:
        """Next-token logits [T, V] of final hidden states."""
        logits: torch.Tensor = model.get_output_embeddings()(hidden_TD)
        return logits
