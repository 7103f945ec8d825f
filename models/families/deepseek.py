"""DeepSeek-V2 (DeepSeek-V2-Lite, arXiv 2405.04434), V3 and R1 (arXiv 2412.19437).

Shape suffixes: T tokens, K experts, G groups of neighbouring experts, X experts of a group.
"""

import torch
from torch.nn import functional

from models.families.base import MoeLayer
from models.families.declared import DeclaredFamily


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


class DeepseekV3Family(DeclaredFamily):
    """Sigmoid of each logit; a bias that balances load enters the choice, not the weight.

    A factor is the expert's sigmoid over the sum of those of the chosen (sec. 2.1.2, equations 13
    to 15), scaled by `routed_scaling_factor`. Routing weights are the same before top-k: the
    sigmoids over their sum over all routed experts. The experts that run are the largest of sigmoid
    plus bias (equation 16) within the `topk_group` groups whose two best have the largest sum.
    Shared experts and dense layers as in DeepSeek-V2.
    """

    def routing_weights(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Sigmoids normalised over all experts; in logarithms, so that none underflows."""
        return functional.logsigmoid(router_logits_TK.float()).softmax(dim=-1)

    def selection_scores(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Sigmoid plus bias, within the groups that the token may use."""
        router = layer.router
        scores_TK = router_logits_TK.float().sigmoid() + router.e_score_correction_bias
        return within_best_groups(scores_TK, router.num_group, router.topk_group, num_best=2)


def within_best_groups(
    scores_TK: torch.Tensor, num_groups: int, num_allowed: int, num_best: int
) -> torch.Tensor:
    """Scores [T, K] with -inf outside each token's `num_allowed` best groups of neighbours.

    A group is as good as the sum of its `num_best` largest scores.

    Examples
    --------
    >>> within_best_groups(torch.tensor([[4.0, 0.0, 3.0, 2.0]]), 2, 1, num_best=2)
    tensor([[-inf, -inf, 3., 2.]])
    """
    scores_TGX = scores_TK.view(len(scores_TK), num_groups, -1)
    groups_TG = scores_TGX.topk(num_best, dim=-1).values.sum(dim=-1)
    best_TG = torch.zeros_like(groups_TG, dtype=torch.bool)
    best_TG.scatter_(1, groups_TG.topk(num_allowed, dim=-1, sorted=False).indices, True)
    return scores_TGX.masked_fill(~best_TG[:, :, None], -torch.inf).view_as(scores_TK)
