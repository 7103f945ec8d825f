"""FlexOlmo (allenai/FlexOlmo-7x7B-1T, arXiv 2507.07024)."""

from models.families.declared import DeclaredFamily


class FlexOlmoFamily(DeclaredFamily):
    """Softmax over all experts, then top-k, normalised again where `norm_topk_prob` says so.

    Every layer has experts. The rows of the router come from different owners of data, trained
    apart; to the routing weights they are rows like any others.
    """
