"""Models read by what their transformers class declares, the base of all families with routers.

A mixture-of-experts class of transformers names its router in `_can_record_outputs`, as (module
class, place of the logits in its output). The block that holds the router holds a module `experts`
too, which is called with (hidden states, ids, factors). Its decorator `use_experts_implementation`
records whether the experts are gated MLPs.

Shape suffixes: T tokens, K experts, A experts executed per token, D hidden size.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.output_capturing import OutputRecorder

from models.families.base import Executed, ExpertWeights, Family, MoeLayer
from models.routing import RoutingCheckError

_SILU = ("silu", "swish")


class DeclaredFamily(Family):
    """A linear router, softmax over all experts, then top-k; a subclass defines what differs.

    Whether the model normalizes the chosen weights again, or takes top-k of the logits first,
    changes no proportion between them: routing weights are the softmax over all.
    """

    def moe_layers(self, model: PreTrainedModel) -> list[MoeLayer]:
        """Routers of the declared class, in the order in which the model holds them."""
        recorder = declared_router(type(model))
        layers = [
            MoeLayer(name, module, _experts_beside(model, name), self.top_k(model), recorder.index)
            for name, module in model.named_modules()
            if isinstance(module, recorder.target_class)
            and f".{recorder.layer_name or name}." in f".{name}."
        ]
        if not layers:
            raise ValueError(
                f"{type(model).__name__} declares routers of class "
                f"{recorder.target_class.__name__}, but this model holds none: its configuration "
                "has no layer with such a router, so it has no pathways"
            )
        return layers

    def router_logits(self, layer: MoeLayer, args: tuple[Any, ...], output: Any) -> torch.Tensor:
        """The declared place of what the router returns."""
        logits: torch.Tensor = output[layer.place]
        return logits.reshape(-1, logits.shape[-1])

    def executed(self, layer: MoeLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Executed:
        """Second and third argument of `experts(hidden_states, ids, factors)`, however named."""
        given = [*args, *kwargs.values()]
        if not _is_choice(given):
            raise RoutingCheckError(
                f"{layer.name}: its experts were called with {', '.join(map(_form, given))}, "
                "expected hidden states, ids and factors [tokens, experts per token]; what the "
                "model executed cannot be read"
            )
        return Executed(given[1], given[2])

    def router_weight(self, router: nn.Module) -> torch.Tensor:
        """The router is one matrix."""
        weight: torch.Tensor = router.weight
        return weight

    def router_bias(self, router: nn.Module) -> torch.Tensor | None:
        """The router's parameter `bias`."""
        bias: torch.Tensor | None = getattr(router, "bias", None)
        return bias

    def top_k(self, model: PreTrainedModel) -> int:
        """From the configuration."""
        return int(model.config.num_experts_per_tok)

    def expert_weights(self, layer: MoeLayer) -> ExpertWeights | None:
        """Fused experts, gate over up [K, 2 I, D] and down [K, D, I]; None for any other form."""
        experts = layer.experts
        if experts is None or not _is_plain_gated(experts):
            return None
        gate_KID, up_KID = experts.gate_up_proj.chunk(2, dim=1)
        return ExpertWeights(gate_KID, up_KID, experts.down_proj)


def declared_router(model_class: type[PreTrainedModel]) -> OutputRecorder:
    """Where a class declares its router logits; ValueError unless it names one place."""
    declared = (model_class._can_record_outputs or {}).get("router_logits")
    if not isinstance(declared, OutputRecorder):
        found = "nothing" if declared is None else f"{len(declared)} modules"
        raise ValueError(
            f"{model_class.__name__} declares {found} as the source of its router logits, expected "
            "one router class; write a family for it (docs/families.md)"
        )
    return declared


def _experts_beside(model: PreTrainedModel, router: str) -> nn.Module:
    block = model.get_submodule(router.rpartition(".")[0])
    experts = getattr(block, "experts", None)
    if not isinstance(experts, nn.Module):
        raise ValueError(
            f"{router}: expected a module `experts` beside the router in {type(block).__name__}, "
            f"found {', '.join(name for name, _ in block.named_children())}; write a family for "
            f"{model.config.model_type} (docs/families.md)"
        )
    return experts


def _is_choice(given: list[Any]) -> bool:
    """Whether ids and factors [T, A] follow hidden states [T, D]."""
    if len(given) != 3 or not all(isinstance(value, torch.Tensor) for value in given):
        return False
    hidden, ids, factors = given
    return (
        ids.ndim == 2
        and not ids.is_floating_point()
        and factors.is_floating_point()
        and ids.shape == factors.shape
        and len(ids) == len(hidden)
    )


def _form(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def _is_plain_gated(experts: nn.Module) -> bool:
    """Whether an expert is down(silu(gate x) * up x), without biases, norms or clamps."""
    plain = (
        getattr(experts, "has_gate", False)
        and experts.is_concatenated
        and not (experts.is_transposed or experts.has_bias or experts.has_post_expert_norm)
    )
    # A class with a gate of its own defines it itself; the default one lives in the library's
    # module of expert back-ends.
    return plain and (
        type(experts)._apply_gate.__module__ == "transformers.integrations.moe"
        and experts.config.hidden_act in _SILU
    )
