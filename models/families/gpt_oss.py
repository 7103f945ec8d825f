"""GPT-OSS (openai/gpt-oss-20b, arXiv 2508.10925, sec. 2.2)."""

import torch
from torch import nn

from models.families.declared import DeclaredFamily


class GptOssFamily(DeclaredFamily):
    """Top-k of the logits, then a softmax over the chosen; the router has a bias.

    Routing weights are the softmax over all experts: among the chosen it stands in the same
    proportions. The router's bias is part of its logits. Experts are gated by a clamped
    x sigmoid(1.702 x) with biases, so they have no closed tangent kernel here. The attention sinks
    add a column to the softmax of the attention, which the library has in its eager form only.
    """

    def router_bias(self, router: nn.Module) -> torch.Tensor | None:
        """One number per expert."""
        bias: torch.Tensor = router.bias
        return bias
