"""Choice limited to the best groups of experts, as DeepSeek's routers make it.

Shape suffixes: T tokens, K experts, G groups of neighbouring experts.
"""

import torch


def within_best_groups(
    scores_TK: torch.Tensor, num_groups: int, num_kept: int, num_best: int
) -> torch.Tensor:
    """Scores [T, K] with -inf outside each token's best groups.

    Parameters
    ----------
    scores_TK
        Any scores; neighbours form groups of K / `num_groups`.
    num_groups, num_kept
        How many groups there are, and how many of them a token may use.
    num_best
        A group is as good as the sum of its so many largest scores.

    Examples
    --------
    >>> within_best_groups(torch.tensor([[4.0, 0.0, 3.0, 2.0]]), 2, 1, num_best=2)
    tensor([[-inf, -inf, 3., 2.]])
    """
    scores_TGX = scores_TK.view(len(scores_TK), num_groups, -1)
    groups_TG = scores_TGX.topk(num_best, dim=-1).values.sum(dim=-1)
    best_TG = torch.zeros_like(groups_TG, dtype=torch.bool)
    best_TG.scatter_(1, groups_TG.topk(num_kept, dim=-1, sorted=False).indices, True)
    return scores_TGX.masked_fill(~best_TG[:, :, None], -torch.inf).view_as(scores_TK)
