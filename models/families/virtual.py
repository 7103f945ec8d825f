"""Dense models: blocks of MLP neurons stand for experts (virtual pathways).

No source is known for this; it is ours. A dense gated MLP computes down(a) with a = silu(gate x) *
(up x). Its neurons are cut into K blocks of neighbours, as even as can be; the routing weight of a
block is its share of the token's activation mass, sum |a_j| over the block over sum |a_j| over all.
Which neurons are neighbours is an accident of initialization: a permutation of neurons leaves the
model as it is and changes the blocks. So compare a series with itself, never with another.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from models.families.base import Executed, Family, MoeLayer

_TINY = 1e-30  # a layer may be silent on a token; its mass is then spread evenly


class VirtualFamily(Family):
    """Any dense model whose layers have `mlp.gate_proj`, `mlp.up_proj` and `mlp.down_proj`."""

    virtual = True

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks

    def moe_layers(self, model: PreTrainedModel) -> list[MoeLayer]:
        """Gated MLPs in the order of the layers; what is read is what enters `down_proj`."""
        layers = [
            MoeLayer(f"{name}.down_proj", module.down_proj, None, self.top_k(model))
            for name, module in model.named_modules()
            if all(hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj"))
        ]
        for layer in layers:
            # Expert embeddings are rows of the gate, which the hooked module does not hold.
            layer.router.gate_proj_weight = _gate_of(model, layer.name)
        return layers

    def router_logits(self, layer: MoeLayer, args: tuple[Any, ...], output: Any) -> torch.Tensor:
        """Logarithm of each block's share of the activation mass, so that softmax gives it back."""
        masses_TI = args[0].reshape(-1, args[0].shape[-1]).float().abs()
        blocks = masses_TI.tensor_split(self._num_blocks(masses_TI.shape[-1]), dim=-1)
        masses_TK = torch.stack([block.sum(dim=-1) for block in blocks], dim=-1) + _TINY
        return (masses_TK / masses_TK.sum(dim=-1, keepdim=True)).clamp_min(_TINY).log()

    def executed(self, layer: MoeLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Executed:
        """Nothing chooses among virtual experts."""
        raise NotImplementedError("a dense model executes all of its neurons")

    def block_input(self, args: tuple[Any, ...]) -> torch.Tensor | None:
        """None: there are no experts that would need it."""
        return None

    def router_weight(self, router: nn.Module) -> torch.Tensor:
        """Mean gate row [K, D] of each block: what a neuron of the block responds to."""
        weight_ID: torch.Tensor = router.gate_proj_weight
        blocks = weight_ID.tensor_split(self._num_blocks(len(weight_ID)), dim=0)
        return torch.stack([block.mean(dim=0) for block in blocks])

    def top_k(self, model: PreTrainedModel) -> int:
        """A quarter of the blocks by convention, as in the nano mixture."""
        return max(1, self.num_blocks // 4)

    def _num_blocks(self, num_neurons: int) -> int:
        if num_neurons < self.num_blocks:
            raise ValueError(
                f"virtual_experts is {self.num_blocks}, but a layer has only {num_neurons} "
                "neurons; choose fewer"
            )
        return self.num_blocks


def _gate_of(model: PreTrainedModel, down_name: str) -> torch.Tensor:
    mlp = model.get_submodule(down_name.rsplit(".", 1)[0])
    weight: torch.Tensor = mlp.gate_proj.weight.detach()
    return weight
