"""Routing weights and losses of samples under one checkpoint.

Shape suffixes: N samples, B samples of a batch, T tokens of the longest of them, P positions whose
loss counts, Q kept tokens, S samples of the kernel, L MoE layers, K experts, D hidden size,
V vocabulary.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from models.batches import (
    Batch,
    Kept,
    PaddingSide,
    RoutedTokens,
    check_samples,
    keep_nothing,
    length_batches,
    pad,
)
from models.families.base import Family, MoeLayer
from models.families.registry import VIRTUAL_EXPERTS, family_of
from models.quiet import no_progress_bars
from models.recording import Recorded, recorded
from models.routing_check import RoutingCheckError, check_padding

__all__ = ["Extraction", "RoutingCheckError", "extract", "load_checkpoint", "router_weights"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Allowed difference of a sample's mean routing weights with padding beside it and without.
_PADDING_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
_PICKLED = (".bin", ".pt", ".pth")
_MAX_LOGITS_PER_CHUNK = 1 << 26


@dataclass(frozen=True)
class Extraction:
    """What one checkpoint does with N samples, in the order in which they were given.

    Attributes
    ----------
    routing_weights_NLK
        float32, rows over K sum to 1: softmax over all router logits, averaged over the sample's
        tokens (arXiv 2506.21551, sec. 4.1).
    losses_N
        float64, nats: mean negative log-likelihood over the tokens that count.
    num_tokens_N, num_counted_N
        int32: tokens of the sample, and how many of them count in the loss.
    token_weights_QLK
        float32, rows over K sum to 1: routing weights of the kept tokens, sample by sample.
    hidden_SLD
        float32: mean input of each block over the routed tokens of the kernel's samples, in their
        order; None where the family has no experts to speak of.
    """

    routing_weights_NLK: np.ndarray
    losses_N: np.ndarray
    num_tokens_N: np.ndarray
    num_counted_N: np.ndarray
    token_weights_QLK: np.ndarray
    hidden_SLD: np.ndarray | None


def load_checkpoint(
    path: Path, device: str, dtype: str, virtual_experts: int = VIRTUAL_EXPERTS
) -> tuple[PreTrainedModel, Family, str]:
    """Load a checkpoint folder for measuring: local safetensors only, no code from the folder.

    Parameters
    ----------
    path
        Folder in Hugging Face format.
    device
        `cpu`, `cuda`, or `auto`: CUDA where there is a device.
    dtype
        `float32` or `bfloat16`.
    virtual_experts
        Blocks of neurons that count as experts of a layer where the model is dense.

    Returns
    -------
    tuple
        The model in evaluation mode, its family, and the device it is on.

    Raises
    ------
    ValueError
        When the folder is not a complete checkpoint with safetensors weights, a file in it is
        damaged, no family reads the model, or there is no such device or dtype.
    """
    path = Path(path)
    with _naming(path):
        family = family_of(_model_type(path), virtual_experts)
    device = _resolve(device)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    with _naming(path), no_progress_bars():
        model, loading = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=DTYPES[dtype],
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            **({} if family.virtual else {"experts_implementation": "grouped_mm"}),
            output_loading_info=True,
        )
    if loading["missing_keys"]:
        # The library would leave random weights there and only warn.
        missing = sorted(loading["missing_keys"])
        raise ValueError(
            f"{path} is not complete: weights of {len(missing)} parameters are missing, "
            f"{missing[0]} among them"
        )
    return model.to(device).eval(), family, device


def router_weights(model: PreTrainedModel, family: Family) -> np.ndarray:
    """Router weights [L, K, D] float32; row k of layer l is the embedding of expert k there."""
    weights = [family.router_weight(layer.router) for layer in family.moe_layers(model)]
    return np.stack([weight.detach().float().cpu().numpy() for weight in weights])


def extract(
    model: PreTrainedModel,
    family: Family,
    token_ids: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    *,
    batch_size: int,
    tokens: RoutedTokens = "all",
    padding_side: PaddingSide = "right",
    kept: Kept | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Extraction:
    """Run samples through a model; return their routing weights and losses.

    Results do not depend on batch size, padding side or order beyond rounding. The routing of the
    first batch is checked before anything is returned (:mod:`models.routing_check`), and so is,
    for the first batch with padding, that padding changes nothing.

    Parameters
    ----------
    model, family
        As :func:`load_checkpoint` returns them; runs where the model is.
    token_ids
        N samples, each with at least 2 token ids, of any length.
    counted
        For each sample and token, whether its loss counts. The first token of a sample is
        predicted from nothing, so what is said of it is ignored.
    batch_size
        Samples per forward pass; fewer where samples are long.
    tokens
        Whose routing is averaged: `all` tokens of the sample, or the `inputs`, all but its last.
    padding_side
        Where shorter samples of a batch are filled up.
    kept
        Tokens and samples of which more than means is kept (:func:`models.batches.choose_kept`).
    on_progress
        Called with (samples done, N, message) after every batch.

    Raises
    ------
    RoutingCheckError
        When what was captured is not the routing that the model executed.
    ValueError
        When a sample is empty, has no token that counts, or a token id is out of range.
    """
    check_samples(token_ids, counted, model.config.vocab_size)
    layers = family.moe_layers(model)
    num_tokens_N = np.array([len(ids) for ids in token_ids], dtype=np.int32)
    num_counted_N = np.array([sum(map(bool, flags[1:])) for flags in counted], dtype=np.int32)
    num_experts = family.router_weight(layers[0].router).shape[0]
    weights_NLK = np.zeros((len(token_ids), len(layers), num_experts), dtype=np.float32)
    losses_N = np.zeros(len(token_ids))
    kept = keep_nothing(len(token_ids)) if kept is None else kept
    tokens_of: dict[int, np.ndarray] = {}
    hidden_of: dict[int, np.ndarray] = {}
    check, check_pads, done = True, True, 0
    for rows in length_batches(num_tokens_N, batch_size):
        batch = pad(token_ids, counted, rows, padding_side, tokens, kept).to(model.device)
        left, losses_B = _run(model, family, layers, batch, check=check)
        weights_BLK = left.stacked(layers, "means_BK")
        check = False
        if check_pads and not bool(batch.mask_BT.all()):
            _check_shortest_alone(model, family, layers, batch, weights_BLK)
            check_pads = False
        weights_NLK[rows] = weights_BLK.float().cpu().numpy()
        losses_N[rows] = losses_B.cpu().numpy()
        tokens_of |= _by_sample(left.stacked(layers, "tokens_QK"), rows, kept)
        if left.hidden_SD:
            hidden_SLD = left.stacked(layers, "hidden_SD").float().cpu().numpy()
            hidden_of |= dict(zip(rows[kept.in_kernel_N[rows]], hidden_SLD, strict=True))
        done += len(rows)
        if on_progress is not None:
            on_progress(done, len(token_ids), "samples")
    return Extraction(
        weights_NLK,
        losses_N,
        num_tokens_N,
        num_counted_N,
        np.concatenate([tokens_of[row] for row in range(len(token_ids))]),
        np.stack([hidden_of[row] for row in sorted(hidden_of)]) if hidden_of else None,
    )


def _by_sample(weights_QLK: torch.Tensor, rows: np.ndarray, kept: Kept) -> dict[int, np.ndarray]:
    """Routing weights of a batch's kept tokens, cut where the samples begin."""
    ends = np.cumsum([len(kept.positions[row]) for row in rows])
    parts = np.split(weights_QLK.cpu().numpy(), ends[:-1])
    return dict(zip(rows.tolist(), parts, strict=True))


@torch.inference_mode()
def _run(
    model: PreTrainedModel, family: Family, layers: list[MoeLayer], batch: Batch, *, check: bool
) -> tuple[Recorded, torch.Tensor]:
    """What a batch left at the routers, and its mean losses [B] float64."""
    mask_BT = batch.mask_BT
    with recorded(family, layers, batch, check=check) as left:
        hidden_BTD = model.base_model(
            input_ids=batch.input_ids_BT,
            attention_mask=mask_BT.long(),
            position_ids=(mask_BT.long().cumsum(dim=-1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state
    missing = [layer.name for layer in layers if layer.name not in left.means_BK]
    if missing:
        raise RoutingCheckError(f"{missing[0]}: no router logits were captured in a forward pass")
    return left, _losses(model, family, hidden_BTD, batch)


def _losses(
    model: PreTrainedModel, family: Family, hidden_BTD: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """Mean loss [B] of the tokens that count; logits are made for those alone, chunk by chunk."""
    samples_P, positions_P = batch.counted_BT.nonzero(as_tuple=True)
    targets_P = batch.input_ids_BT[samples_P, positions_P]
    sums_B = torch.zeros(len(hidden_BTD), dtype=torch.float64, device=hidden_BTD.device)
    chunk = max(1, _MAX_LOGITS_PER_CHUNK // model.config.vocab_size)
    for begin in range(0, len(targets_P), chunk):
        part = slice(begin, begin + chunk)
        hidden_PD = hidden_BTD[samples_P[part], positions_P[part] - 1]
        logits_PV = family.logits(model, hidden_PD).float()
        chosen_P = logits_PV.gather(1, targets_P[part, None])[:, 0]
        losses_P = logits_PV.logsumexp(dim=-1) - chosen_P
        sums_B.index_add_(0, samples_P[part], losses_P.double())
    return sums_B / batch.counted_BT.sum(dim=1)


def _check_shortest_alone(
    model: PreTrainedModel,
    family: Family,
    layers: list[MoeLayer],
    batch: Batch,
    weights_BLK: torch.Tensor,
) -> None:
    row = int(batch.mask_BT.sum(dim=1).argmin())
    left, _ = _run(model, family, layers, batch.alone(row), check=False)
    alone_LK = left.stacked(layers, "means_BK")[0]
    num_padding = int((~batch.mask_BT[row]).sum())
    tolerance = _PADDING_TOLERANCE[model.dtype]
    names = [layer.name for layer in layers]
    check_padding(names, weights_BLK[row], alone_LK, num_padding, tolerance)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which checkpoint a file is damaged: the readers of safetensors and JSON do not."""
    try:
        yield
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} holds a damaged file, perhaps cut short while it was copied ({error}); fetch "
            "or save the checkpoint again"
        ) from error


def _model_type(path: Path) -> str:
    config = path / "config.json"
    if not config.is_file():
        raise ValueError(f"{path} is not a checkpoint: config.json is missing")
    if not any(path.glob("*.safetensors")):
        others = sorted(
            file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern)
        )
        found = f"found only {', '.join(others)}" if others else "found no weights"
        raise ValueError(
            f"{path}: expected *.safetensors weights, {found}; pickled weights are not loaded "
            "because they can run code, convert them to safetensors"
        )
    return str(json.loads(config.read_text(encoding="utf-8")).get("model_type", ""))


def _resolve(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but torch finds no CUDA device; use auto or cpu")
    return device
