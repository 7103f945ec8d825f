"""Granite-MoE, with shared experts, with sliding windows, and hybrid with state-space layers.

ibm-granite/granite-3.0-1b-a400m-base and granite-4.0-tiny-base; PowerMoE, arXiv 2408.13359.
"""

import torch
from transformers import PreTrainedModel

from models.families.declared import DeclaredFamily


class GraniteMoeFamily(DeclaredFamily):
    """Top-k of the logits, then a softmax over the chosen; every layer has experts.

    Routing weights are the softmax over all experts: among the chosen it stands in the same
    proportions. Shared experts run for every token and are no experts of a pathway. Next-token
    logits are divided by `logits_scaling`. A hybrid model without experts is refused.
    """

    def logits(self, model: PreTrainedModel, hidden_TD: torch.Tensor) -> torch.Tensor:
        """Divided by `logits_scaling`, as the model does."""
        return super().logits(model, hidden_TD) / model.config.logits_scaling
