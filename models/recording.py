"""What forward passes leave behind at the routers: mean weights, weights of tokens, block inputs.

Shape suffixes: B samples of a batch, T tokens of the longest of them, Q kept tokens, S samples of
the kernel, L MoE layers, K experts, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from models.batches import Batch
from models.families.base import Executed, Family, MoeLayer
from models.routing_check import (
    Routing,
    RoutingCheckError,
    check_num_tokens,
    check_routing,
    check_rows,
)

_ALL = slice(None)


@dataclass
class Recorded:
    """By layer name, what one forward pass left."""

    means_BK: dict[str, torch.Tensor] = field(default_factory=dict)
    """Mean routing weights of each sample's routed tokens, float64."""
    tokens_QK: dict[str, torch.Tensor] = field(default_factory=dict)
    """Routing weights of the kept tokens, sample by sample, in order of position, float32."""
    hidden_SD: dict[str, torch.Tensor] = field(default_factory=dict)
    """Mean input of the block over the routed tokens of the kernel's samples, float64."""

    def stacked(self, layers: list[MoeLayer], kind: str) -> torch.Tensor:
        """One kind, layers side by side in dimension 1."""
        found = getattr(self, kind)
        return torch.stack([found[layer.name] for layer in layers], dim=1)


@contextmanager
def recorded(
    family: Family, layers: list[MoeLayer], batch: Batch, *, check: bool
) -> Iterator[Recorded]:
    """While open, a forward pass of the batch leaves what its routers did."""
    left = Recorded()
    waiting: dict[str, tuple[tuple, torch.Tensor]] = {}
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
        left.means_BK[layer.name] = mean(weights_TK)
        left.tokens_QK[layer.name] = weights_TK[batch.kept_Q].float()
        inputs_TD = family.block_input(args) if len(batch.kernel_S) else None
        if inputs_TD is not None:
            left.hidden_SD[layer.name] = mean(inputs_TD, batch.kernel_S)
        if check and family.virtual:
            check_rows(layer.name, weights_TK[real])
        elif check:
            waiting[layer.name] = args, logits_TK

    def on_experts(layer: MoeLayer, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        executed = family.executed(layer, args, kwargs)
        check_routing(_routing(family, layer, *waiting.pop(layer.name), executed, real))

    handles = []
    for layer in layers:
        handles.append(layer.router.register_forward_hook(partial(on_router, layer)))
        if check and layer.experts is not None:
            pre_hook = partial(on_experts, layer)
            handles.append(layer.experts.register_forward_pre_hook(pre_hook, with_kwargs=True))
    try:
        yield left
    finally:
        for handle in handles:
            handle.remove()
    if waiting:
        raise RoutingCheckError(
            f"{next(iter(waiting))}: its experts were not called in a forward pass, so what the "
            "model executed cannot be compared with the routing weights"
        )


def _routing(
    family: Family,
    layer: MoeLayer,
    router_args: tuple,
    logits_TK: torch.Tensor,
    executed: Executed,
    real: torch.Tensor,
) -> Routing:
    """What a layer did with the real tokens, and what its family says of it."""
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
