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
from models.families.base import Family, MoeLayer
from models.routing_check import RoutingCheckError, check_num_tokens, check_routing, check_rows


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
    logits: dict[str, torch.Tensor] = {}
    shape = batch.mask_BT.shape
    real, routed = batch.mask_BT.reshape(-1), batch.routed_BT.reshape(-1)
    kept, num_routed_B1 = batch.kept_BT.reshape(-1), batch.routed_BT.sum(dim=1, keepdim=True)

    def mean(values_TX: torch.Tensor) -> torch.Tensor:
        # Selected, not multiplied: what a padding position holds may be NaN.
        values_TX = torch.where(routed[:, None], values_TX, 0.0).double()
        return values_TX.view(*shape, -1).sum(dim=1) / num_routed_B1

    def on_router(name: str, module: torch.nn.Module, args: tuple, output: Any) -> None:
        logits_TK = family.router_logits(args, output)
        check_num_tokens(name, len(logits_TK), *shape)
        weights_TK = family.routing_weights(logits_TK)
        left.means_BK[name] = mean(weights_TK)
        left.tokens_QK[name] = weights_TK[kept].float()
        inputs_TD = family.block_input(args) if batch.in_kernel_B.any() else None
        if inputs_TD is not None:
            left.hidden_SD[name] = mean(inputs_TD.float())[batch.in_kernel_B]
        if check and family.virtual:
            check_rows(name, weights_TK[real])
        if not family.virtual:
            logits[name] = logits_TK

    def on_experts(name: str, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        logits_TK = logits.pop(name)[real]
        ids_TA = family.executed_experts(args, kwargs)[real]
        check_routing(name, logits_TK, family.routing_weights(logits_TK), ids_TA)

    handles = []
    for layer in layers:
        handles.append(layer.router.register_forward_hook(partial(on_router, layer.name)))
        if check and layer.experts is not None:
            pre_hook = partial(on_experts, layer.name)
            handles.append(layer.experts.register_forward_pre_hook(pre_hook, with_kwargs=True))
    try:
        yield left
    finally:
        for handle in handles:
            handle.remove()
    if check and logits:
        raise RoutingCheckError(
            f"{next(iter(logits))}: its experts were not called in a forward pass, so what the "
            "model executed cannot be compared with the routing weights"
        )
