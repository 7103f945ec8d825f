"""What the routers of a model do in forward passes, recorded and checked before it is stored.

A model library may change what it calls router logits: transformers 5.0 to 5.5 returned
probabilities under that name, and a second softmax flattens every measure silently. And a family
may be wrong about its gate: so its routing weights are compared with what the experts did.

Shape suffixes: B samples of a batch, T tokens (in checks: real ones), Q selected tokens, S samples
of the kernel, L MoE layers, K experts, A experts executed per token, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from models.batches import Batch
from models.families.base import Executed, Family, MoeLayer

_ALL = slice(None)
_SUM_TOLERANCE = 1e-3
_TIE_TOLERANCE = 1e-6
# Relative rounding of a product and of a factor, by the precision of the computation; with margin.
_PRODUCT_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-2}
_FACTOR_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


class RoutingCheckError(ValueError):
    """Recorded routing that is not what it should be; nothing was stored."""


@dataclass
class Recorded:
    """Records of one forward pass, by layer name."""

    means_BK: dict[str, torch.Tensor] = field(default_factory=dict)
    """Mean routing weights of each sample's routed tokens, float64."""
    tokens_QK: dict[str, torch.Tensor] = field(default_factory=dict)
    """Routing weights of the selected tokens, sample by sample, in order of position, float32."""
    hidden_SD: dict[str, torch.Tensor] = field(default_factory=dict)
    """Mean input of the block over the routed tokens of the kernel's samples, float64."""

    def stacked(self, layers: list[MoeLayer], kind: str) -> torch.Tensor:
        """One kind, layers side by side in dimension 1."""
        found = getattr(self, kind)
        return torch.stack([found[layer.name] for layer in layers], dim=1)


@contextmanager
def recording(
    family: Family, layers: list[MoeLayer], batch: Batch, *, check: bool
) -> Iterator[Recorded]:
    """While open, a forward pass of the batch records what its routers do."""
    records = Recorded()
    unchecked: dict[str, tuple[tuple, torch.Tensor]] = {}
    shape = batch.mask_BT.shape
    real = batch.mask_BT.reshape(-1)

    def mean(values_TX: torch.Tensor, samples: torch.Tensor | slice = _ALL) -> torch.Tensor:
        # Selected, not multiplied: what a padding position holds may be NaN.
        routed_BT1 = batch.routed_BT[samples][..., None]
        values_BTX = torch.where(routed_BT1, values_TX.view(*shape, -1)[samples].float(), 0.0)
        return values_BTX.sum(dim=1, dtype=torch.float64) / routed_BT1.sum(dim=1)

    def on_router(layer: MoeLayer, module: torch.nn.Module, args: tuple, output: Any) -> None:
        logits_TK = family.router_logits(layer, args, output)
        check_num_tokens(layer.name, len(logits_TK), *shape)
        weights_TK = family.routing_weights(layer, logits_TK)
        records.means_BK[layer.name] = mean(weights_TK)
        records.tokens_QK[layer.name] = weights_TK[batch.selected_Q].float()
        inputs_TD = family.block_input(args) if len(batch.kernel_S) else None
        if inputs_TD is not None:
            records.hidden_SD[layer.name] = mean(inputs_TD, batch.kernel_S)
        if check and family.virtual:
            check_rows(layer.name, weights_TK[real])
        elif check:
            unchecked[layer.name] = args, logits_TK

    def on_experts(layer: MoeLayer, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        executed = family.executed(layer, args, kwargs)
        check_routing(_routing(family, layer, *unchecked.pop(layer.name), executed, real))

    handles = []
    for layer in layers:
        handles.append(layer.router.register_forward_hook(partial(on_router, layer)))
        if check and layer.experts is not None:
            pre_hook = partial(on_experts, layer)
            handles.append(layer.experts.register_forward_pre_hook(pre_hook, with_kwargs=True))
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()
    if unchecked:
        raise RoutingCheckError(
            f"{next(iter(unchecked))}: its experts were not called in a forward pass, so what the "
            "model executed cannot be compared with the routing weights"
        )


@dataclass(frozen=True)
class Routing:
    """The routing of one layer on real (not padding) tokens, and its family's reading of it."""

    layer: str
    """Name of the router, for messages."""
    inputs_TD: torch.Tensor
    matrix_KD: torch.Tensor
    bias_K: torch.Tensor | None
    """The router's input and weight, and its bias where it has one."""
    logits_TK: torch.Tensor
    """Recorded as raw router logits."""
    weights_TK: torch.Tensor
    scores_TK: torch.Tensor
    """The family's routing weights, and its scores by which experts are chosen."""
    top_k: int
    expert_ids_TA: torch.Tensor
    factors_TA: torch.Tensor
    """The experts that the model executed, and the factors of their outputs."""


def _routing(
    family: Family,
    layer: MoeLayer,
    router_args: tuple,
    logits_TK: torch.Tensor,
    executed: Executed,
    real: torch.Tensor,
) -> Routing:
    logits_TK, inputs_TD = logits_TK[real], family.block_input(router_args)
    assert inputs_TD is not None  # there are experts
    return Routing(
        layer=layer.name,
        inputs_TD=inputs_TD[real],
        matrix_KD=family.router_weight(layer.router),
        bias_K=family.router_bias(layer.router),
        logits_TK=logits_TK,
        weights_TK=family.routing_weights(layer, logits_TK),
        scores_TK=family.selection_scores(layer, logits_TK),
        top_k=layer.top_k,
        expert_ids_TA=executed.ids_TA[real],
        factors_TA=executed.factors_TA[real],
    )


def check_routing(routing: Routing) -> None:
    """Check that routing weights are those of their family, and what the model acted on.

    Raises
    ------
    RoutingCheckError
        When the logits are probabilities already, or not the product of the router's input and
        weight; when rows of the weights do not sum to 1; when the executed experts are not the
        `top_k` of largest score (equal scores may be in any order); when the factors of their
        outputs are not in proportion to their routing weights.
    """
    _check_raw(routing.layer, routing.logits_TK.float())
    check_rows(routing.layer, routing.weights_TK)
    _check_product(routing)
    _check_executed(routing)
    _check_factors(routing)


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
    """Check that the router saw every position once, so that padding is known."""
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


def _check_product(routing: Routing) -> None:
    inputs_TD, matrix_KD = routing.inputs_TD.float(), routing.matrix_KD.float()
    product_TK, scale_TK = inputs_TD @ matrix_KD.T, inputs_TD.abs() @ matrix_KD.abs().T
    if routing.bias_K is not None:
        product_TK, scale_TK = product_TK + routing.bias_K, scale_TK + routing.bias_K.abs()
    apart_TK = (routing.logits_TK.float() - product_TK).abs()
    if not bool((apart_TK <= _PRODUCT_TOLERANCE[routing.matrix_KD.dtype] * scale_TK).all()):
        raise RoutingCheckError(
            f"{routing.layer}: the captured router logits differ by up to {apart_TK.max():.2g} "
            "from the product of the router's input and weight; are they raw, and does the family "
            "name the right matrix and bias?"
        )


def _check_executed(routing: Routing) -> None:
    scores_TK, ids_TA = routing.scores_TK, routing.expert_ids_TA.long()
    if ids_TA.shape[-1] != routing.top_k:
        raise RoutingCheckError(
            f"{routing.layer}: the model executed {ids_TA.shape[-1]} experts per token, expected "
            f"{routing.top_k}, as in its configuration"
        )
    largest_TA = scores_TK.topk(routing.top_k, dim=-1)
    threshold_T1 = largest_TA.values[:, -1:] - _TIE_TOLERANCE
    ordered_TA = ids_TA.sort(dim=-1).values
    twice_T = (ordered_TA[:, 1:] == ordered_TA[:, :-1]).any(dim=-1)
    wrong_T = (scores_TK.gather(-1, ids_TA) < threshold_T1).any(dim=-1) | twice_T
    if bool(wrong_T.any()):
        token = int(wrong_T.int().argmax())
        raise RoutingCheckError(
            f"{routing.layer}: {int(wrong_T.sum())} of {len(wrong_T)} tokens executed other "
            "experts than those that the family chooses; the first executed "
            f"{ids_TA[token].tolist()}, expected {largest_TA.indices[token].tolist()}"
        )


def _check_factors(routing: Routing) -> None:
    """Compare within each token; a single expert's factor is compared between tokens instead."""
    factors_TA = routing.factors_TA.float()
    weights_TA = routing.weights_TK.gather(-1, routing.expert_ids_TA.long()).float()
    dim = -1 if routing.top_k > 1 else 0
    if dim == 0 and bool((factors_TA == 1).all()):
        return  # normalised over one expert, it has no information on the weights
    found_TA = factors_TA / factors_TA.mean(dim=dim, keepdim=True)
    expected_TA = weights_TA / weights_TA.mean(dim=dim, keepdim=True)
    precision = min(routing.factors_TA.dtype, routing.matrix_KD.dtype, key=lambda d: d.itemsize)
    allowed_TA = _FACTOR_TOLERANCE[precision] * (1 + expected_TA)
    right_T = ((found_TA - expected_TA).abs() <= allowed_TA).all(dim=-1)  # not so for NaN
    if not bool(right_T.all()):
        token = int((~right_T).int().argmax())
        raise RoutingCheckError(
            f"{routing.layer}: on {int((~right_T).sum())} of {len(right_T)} tokens the outputs of "
            "the executed experts are not in proportion to their routing weights; on the first "
            f"the model used {_listed(factors_TA[token])}, the family has "
            f"{_listed(weights_TA[token])} up to one factor; the gate is another than the family's"
        )


def _listed(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())
