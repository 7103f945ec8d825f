"""DeepSeek-V3 and R1 (deepseek-ai/DeepSeek-V3-Base, arXiv 2412.19437)."""

import torch
from torch.nn import functional

from models.families.base import MoeLayer
from models.families.declared import DeclaredFamily
from models.families.groups import within_best_groups


class DeepseekV3Family(DeclaredFamily):
    """Sigmoid of each logit; a bias that balances load enters the choice, not the weight.

    A factor is the expert's sigmoid over the sum of those of the chosen (sec. 2.1.2, equations 13
    to 15), scaled by `routed_scaling_factor`. Routing weights are the same before top-k: the
    sigmoids over their sum over all routed experts. What is executed are the largest of sigmoid
    plus bias (equation 16) within the `topk_group` groups whose two best have the largest sum.
    Shared experts run for every token and are no experts of a pathway; the first
    `first_k_dense_replace` layers are dense and do not appear.
    """

    def routing_weights(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Sigmoids normalised over all experts; in logarithms, so that none underflows."""
        return functional.logsigmoid(router_logits_TK.float()).softmax(dim=-1)

    def selection_scores(self, layer: MoeLayer, router_logits_TK: torch.Tensor) -> torch.Tensor:
        """Sigmoid plus bias, within the groups that the token may use."""
        router = layer.router
        scores_TK = router_logits_TK.float().sigmoid() + router.e_score_correction_bias
        return within_best_groups(scores_TK, router.num_group, router.topk_group, num_best=2)
