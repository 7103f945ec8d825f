"""Norms of a checkpoint's weights by kind, straight from its files: no model is loaded."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from models.checkpoints import weight_files

# Names as the families in transformers write them; the first pattern that fits decides.
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("router", re.compile(r"\.(gate|router)(\.layer)?\.(weight|bias|e_score_correction_bias)$")),
    ("expert", re.compile(r"\.(experts|shared_experts?|mlp|shared_mlp|block_sparse_moe)\.")),
    ("attention", re.compile(r"\.(self_attn|attention|attn)\.")),
)
OTHER = "other"


@dataclass(frozen=True)
class KindNorm:
    """L2 norm of all weights of a kind together, and how many there are."""

    norm: float
    num_parameters: int


def weight_norms(folder: Path) -> dict[str, KindNorm]:
    """L2 norm of each kind of weights: router, expert, attention, other (embeddings, norms).

    The norm of a kind is the root of the sum of squares over all its tensors, in float64. In a
    dense model the MLPs count as experts and there is no router.

    Raises
    ------
    ValueError
        If the folder holds no weights, or two sets of them, or a file that cannot be read.
    """
    squares: dict[str, float] = {}
    counts: dict[str, int] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (no mapping)
                    tensor = tensors.get_tensor(name)
                    kind = kind_of(name)
                    squares[kind] = (
                        squares.get(kind, 0.0) + tensor.to(torch.float64).square().sum().item()
                    )
                    counts[kind] = counts.get(kind, 0) + tensor.numel()
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged ({error}); fetch or save it again") from error
    return {kind: KindNorm(math.sqrt(squares[kind]), counts[kind]) for kind in squares}


def kind_of(name: str) -> str:
    """Kind of a weight by its name.

    >>> kind_of("model.layers.0.mlp.gate.weight"), kind_of("model.layers.0.mlp.gate_proj.weight")
    ('router', 'expert')
    """
    return next((kind for kind, pattern in KINDS if pattern.search(name)), OTHER)
