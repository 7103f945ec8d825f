"""Self-check of captured routing: it runs before anything that rests on it is kept.

A model library may change what it calls router logits: transformers 5.0 to 5.5 returned
probabilities under that name, and a second softmax flattens every measure without a sound.

Shape suffixes: T real tokens, L MoE layers, K experts, A experts executed per token.
"""

import torch

_SUM_TOLERANCE = 1e-3
_TIE_TOLERANCE = 1e-6


class RoutingCheckError(ValueError):
    """Captured routing that is not what it should be; nothing was kept."""


def check_routing(
    layer: str,
    router_logits_TK: torch.Tensor,
    routing_weights_TK: torch.Tensor,
    expert_ids_TA: torch.Tensor,
) -> None:
    """Check the routing of one layer on real (not padding) tokens.

    Parameters
    ----------
    layer
        Name of the router, for the message.
    router_logits_TK
        What was captured as raw logits.
    routing_weights_TK
        Weights computed from them.
    expert_ids_TA
        Experts that the model executed.

    Raises
    ------
    RoutingCheckError
        When the logits are probabilities already; when rows of the weights do not sum to 1; when
        the executed experts are not those of largest weight (equal weights may be in any order).
    """
    _check_raw(layer, router_logits_TK.float())
    check_rows(layer, routing_weights_TK)
    _check_executed(layer, routing_weights_TK, expert_ids_TA)


def check_rows(layer: str, routing_weights_TK: torch.Tensor) -> None:
    """Refuse routing weights of a token that do not sum to 1, NaN among them."""
    sums_T = routing_weights_TK.sum(dim=-1)
    if not bool(((sums_T - 1.0).abs() < _SUM_TOLERANCE).all()):  # not so for NaN either
        worst = sums_T[(sums_T - 1.0).abs().nan_to_num(nan=torch.inf).argmax()]
        raise RoutingCheckError(
            f"{layer}: the routing weights of a token sum to {worst.item():g}, expected 1; are the "
            "router's weights finite, and does the family compute the weights as the model does?"
        )


def check_num_tokens(layer: str, found: int, num_samples: int, padded_length: int) -> None:
    """Check that the router saw every position once, so that padding can be told apart."""
    if found != num_samples * padded_length:
        raise RoutingCheckError(
            f"{layer}: captured router logits of {found} tokens, expected {num_samples} samples of "
            f"{padded_length} tokens ({num_samples * padded_length}); padding cannot be excluded"
        )


def check_padding(
    layers: list[str],
    padded_LK: torch.Tensor,
    alone_LK: torch.Tensor,
    num_padding: int,
    tolerance: float,
) -> None:
    """Check that a sample is routed the same with padding beside it as it is alone."""
    differences_L = (padded_LK - alone_LK).abs().amax(dim=-1)
    if not bool((differences_L <= tolerance).all()):
        layer = int(differences_L.nan_to_num(nan=torch.inf).argmax())
        raise RoutingCheckError(
            f"{layers[layer]}: the mean routing weights of a sample differ by "
            f"{differences_L[layer].item():.2g} between {num_padding} padding tokens and none, "
            f"expected at most {tolerance:g}; padding is not excluded"
        )


def _check_raw(layer: str, router_logits_TK: torch.Tensor) -> None:
    within = ((router_logits_TK >= 0.0) & (router_logits_TK <= 1.0)).all()
    sums_T = router_logits_TK.sum(dim=-1)
    if bool(within) and bool(((sums_T - 1.0).abs() < _SUM_TOLERANCE).all()):
        raise RoutingCheckError(
            f"{layer}: captured probabilities, expected raw router logits: all "
            f"{len(sums_T)} rows lie within [0, 1] and sum to 1. The library that runs the model "
            "applies the softmax itself; use transformers 5.6 or later"
        )


def _check_executed(
    layer: str, routing_weights_TK: torch.Tensor, expert_ids_TA: torch.Tensor
) -> None:
    num_executed = expert_ids_TA.shape[-1]
    largest_TA = routing_weights_TK.topk(num_executed, dim=-1)
    executed_TA = routing_weights_TK.gather(-1, expert_ids_TA.long())
    threshold_T1 = largest_TA.values[:, -1:] - _TIE_TOLERANCE
    ordered_TA = expert_ids_TA.sort(dim=-1).values
    twice_T = (ordered_TA[:, 1:] == ordered_TA[:, :-1]).any(dim=-1)
    wrong_T = (executed_TA < threshold_T1).any(dim=-1) | twice_T
    if bool(wrong_T.any()):
        token = int(wrong_T.int().argmax())
        raise RoutingCheckError(
            f"{layer}: {int(wrong_T.sum())} of {len(wrong_T)} tokens executed other experts than "
            f"those of largest routing weight; the first executed {expert_ids_TA[token].tolist()}, "
            f"expected {largest_TA.indices[token].tolist()}"
        )
