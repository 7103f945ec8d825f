"""Qwen2-MoE and Qwen1.5-MoE (Qwen/Qwen1.5-MoE-A2.7B, arXiv 2407.10671, sec. 2.2.2)."""

from models.families.declared import DeclaredFamily


class Qwen2MoeFamily(DeclaredFamily):
    """Softmax over all routed experts, then top-k, normalised again where `norm_topk_prob` is set.

    The shared expert has a sigmoid gate of its own and is executed for every token: nothing chooses
    it, so it is no expert of a pathway. Layers named in `mlp_only_layers`, or passed over by
    `decoder_sparse_step`, are dense and do not appear.
    """
