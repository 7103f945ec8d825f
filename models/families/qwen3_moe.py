"""Qwen3-MoE (Qwen/Qwen3-30B-A3B, arXiv 2505.09388, sec. 2)."""

from models.families.declared import DeclaredFamily


class Qwen3MoeFamily(DeclaredFamily):
    """Softmax over all experts, then top-k, normalised again where `norm_topk_prob` is set.

    No shared experts. Layers named in `mlp_only_layers`, or passed over by `decoder_sparse_step`,
    are dense and do not appear.
    """
