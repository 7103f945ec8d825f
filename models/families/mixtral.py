"""Mixtral (mistralai/Mixtral-8x7B-v0.1, arXiv 2401.04088)."""

from models.families.declared import DeclaredFamily


class MixtralFamily(DeclaredFamily):
    """Top-k of the logits, then a softmax over those (sec. 2.1); every layer has experts.

    That is a softmax over all experts, cut to the chosen and normalised again, which is how the
    library computes it. Routing weights are the softmax over all.
    """
