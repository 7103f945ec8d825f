"""DeepSeek-V2 (deepseek-ai/DeepSeek-V2-Lite, arXiv 2405.04434)."""

import torch

from models.families.base import MoeLayer
from models.families.declared import DeclaredFamily
from models.families.groups import within_best_groups


class DeepseekV2Family(DeclaredFamily):
    """Softmax over all routed experts, then top-k, for the large model within the best groups.

    Routing weights are the softmax (sec. 2.2.1, equation 22). `topk_method: group_limited_greedy`
    lets a token use experts of `topk_group` groups only, those with the largest single weight
    (sec. 2.2.2); so a chosen expert need not be among the largest of all. The factors are scaled by
    `routed_scaling_factor`. Shared experts run for every token and are no experts of a pathway; the
    first `first_k_dense_replace` layers are dense and do not appear.
    """

    def selection_scores(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Routing weights within the groups that the token may use."""
        router, weights_TK = layer.router, self.routing_weights(layer, router_logits_TK)
        if router.topk_method == "greedy":
            return weights_TK
        return within_best_groups(weights_TK, router.num_group, router.topk_group, num_best=1)
