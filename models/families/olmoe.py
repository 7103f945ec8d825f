"""OLMoE (allenai/OLMoE-1B-7B-0924, arXiv 2409.02060), and with it the nano model."""

from models.families.declared import DeclaredFamily


class OlmoeFamily(DeclaredFamily):
    """Softmax over all experts, then top-k, not normalised again; every layer has experts.

    arXiv 2409.02060, sec. 2, equation 1.
    """
