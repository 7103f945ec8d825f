"""What is measured of samples under one checkpoint: routing weights, losses, scores of tokens.

Shape suffixes: N samples, B samples of a batch, T tokens of the longest of them, P tokens that
count, Q selected tokens, S samples of the kernel, L MoE layers, K experts, D hidden size,
V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from models.batches import (
    Batch,
    PaddingSide,
    RoutedTokens,
    Selection,
    check_samples,
    pad,
    select_nothing,
)
from models.families.base import Family
from models.forward import BatchSize, counted_logits, last_hidden, run_batches
from models.routing import Recorded, RoutingCheckError, check_padding, recording

# Allowed difference of a sample's mean routing weights with padding beside it and without.
_PADDING_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Extraction:
    """What one checkpoint does with N samples, in their order."""

    routing_weights_NLK: np.ndarray
    """float32, rows over K sum to 1: softmax over all router logits, averaged over the sample's
    tokens (arXiv 2506.21551, sec. 4.1)."""
    losses_N: np.ndarray
    """float64, nats: mean negative log-likelihood over the tokens that count."""
    num_tokens_N: np.ndarray
    num_counted_N: np.ndarray
    """int32: tokens of the sample, and how many of them count in the loss."""
    token_weights_QLK: np.ndarray
    """float32, rows over K sum to 1: routing weights of the selected tokens, sample by sample."""
    hidden_SLD: np.ndarray | None
    """float32: mean input of each block over the routed tokens of the kernel's samples, in their
    order; None where experts are virtual."""


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
    batch_size: BatchSize,
    tokens: RoutedTokens = "all",
    padding_side: PaddingSide = "right",
    selection: Selection | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Extraction:
    """Run samples through a model; return their routing weights and losses.

    Results do not depend on batch size, padding side or order beyond rounding. The routing of the
    first batch is checked before anything is returned (:mod:`models.routing`), and so is, for the
    first batch with padding, that padding changes nothing.

    Parameters
    ----------
    model, family
        As :func:`models.loading.load_checkpoint` returns them; runs where the model is.
    token_ids
        N samples, each with at least 2 token ids.
    counted
        For each sample and token, whether its loss counts; never that of a sample's first token,
        which is predicted from nothing.
    batch_size
        Samples per forward pass, as in :func:`models.forward.run_batches`.
    tokens
        Whose routing is averaged: `all` tokens of the sample, or the `inputs`, all but its last.
    padding_side
        Where shorter samples of a batch are padded.
    selection
        Tokens and samples of which more than means is returned
        (:func:`models.batches.select_tokens`).
    on_progress
        Called with (samples done, N, message) after every batch.

    Raises
    ------
    RoutingCheckError
        When what was recorded is not the routing that the model executed.
    ValueError
        When a sample is empty, has no token that counts, or a token id is out of range; when one
        alone does not fit into memory.
    """
    check_samples(token_ids, counted, model.config)
    num_tokens_N = np.array([len(ids) for ids in token_ids], dtype=np.int32)
    num_counted_N = np.array([sum(map(bool, flags[1:])) for flags in counted], dtype=np.int32)
    selection = selection or select_nothing(len(token_ids))
    measure = _Measure(model, family)
    parts: list[dict[str, np.ndarray]] = []
    order: list[np.ndarray] = []
    done = 0
    for rows, results in run_batches(
        num_tokens_N,
        batch_size,
        model.device,
        lambda rows: pad(token_ids, counted, rows, padding_side, tokens, selection),
        measure,
    ):
        order.append(rows)
        parts.append({name: tensor.numpy() for name, tensor in results.items()})
        done += len(rows)
        if on_progress is not None:
            on_progress(done, len(token_ids), "samples")
    rows_N = np.concatenate(order)
    num_selected_N = np.array([len(positions) for positions in selection.positions])
    return Extraction(
        _sorted("means_BLK", parts, rows_N),
        _sorted("losses_B", parts, rows_N),
        num_tokens_N,
        num_counted_N,
        _sorted("tokens_QLK", parts, np.repeat(rows_N, num_selected_N[rows_N])),
        _sorted("hidden_SLD", parts, rows_N[selection.in_kernel_N[rows_N]])
        if any("hidden_SLD" in part for part in parts)
        else None,
    )


def _sorted(name: str, parts: list[dict[str, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    """Results of the batches in the order of the samples; `rows` is the sample of each line."""
    found = np.concatenate([part[name] for part in parts if name in part])
    return found[np.argsort(rows, kind="stable")]


class _Measure:
    """Computes the results of a batch; the first one, and the first with padding, are checked."""

    def __init__(self, model: PreTrainedModel, family: Family) -> None:
        self.model, self.family = model, family
        self.layers = family.moe_layers(model)
        self.check_routing, self.check_padding = True, True

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Means [B, L, K], losses [B], weights of the selected tokens, inputs of the kernel."""
        records, hidden_BTD = self._forward(batch, check=self.check_routing)
        means_BLK = records.stacked(self.layers, "means_BK")
        results = {
            "means_BLK": means_BLK.float(),
            "losses_B": self._losses(hidden_BTD, batch),
            "tokens_QLK": records.stacked(self.layers, "tokens_QK"),
        }
        if records.hidden_SD:
            results["hidden_SLD"] = records.stacked(self.layers, "hidden_SD").float()
        if self.check_padding and batch.padded:
            self._check_shortest_alone(batch, means_BLK)
            self.check_padding = False
        self.check_routing = False
        return results

    def _forward(self, batch: Batch, *, check: bool) -> tuple[Recorded, torch.Tensor]:
        """Records of the routers, and final hidden states [B, T, D]."""
        with recording(self.family, self.layers, batch, check=check) as records:
            hidden_BTD = last_hidden(self.model, batch)
        missing = [layer.name for layer in self.layers if layer.name not in records.means_BK]
        if missing:
            raise RoutingCheckError(
                f"{missing[0]}: no router logits were captured in a forward pass"
            )
        return records, hidden_BTD

    def _losses(self, hidden_BTD: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean loss [B] of the tokens that count."""
        sums_B = torch.zeros(len(hidden_BTD), dtype=torch.float64, device=hidden_BTD.device)
        counts_B = torch.zeros_like(sums_B)
        for samples_P, ids_P, logits_PV in counted_logits(
            self.model, self.family, hidden_BTD, batch
        ):
            losses_P = torch.nn.functional.cross_entropy(
                logits_PV.float(), ids_P, reduction="none"
            ).double()
            sums_B.index_add_(0, samples_P, losses_P)
            counts_B.index_add_(0, samples_P, torch.ones_like(losses_P))
        return sums_B / counts_B

    def _check_shortest_alone(self, batch: Batch, means_BLK: torch.Tensor) -> None:
        row = int(batch.mask_BT.sum(dim=1).argmin())
        records, _ = self._forward(batch.alone(row), check=False)
        alone_LK = records.stacked(self.layers, "means_BK")[0]
        num_padding = int((~batch.mask_BT[row]).sum())
        tolerance = _PADDING_TOLERANCE[self.model.dtype]
        names = [layer.name for layer in self.layers]
        check_padding(names, means_BLK[row], alone_LK, num_padding, tolerance)


def token_scores(
    model: PreTrainedModel,
    family: Family,
    token_ids: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    *,
    batch_size: BatchSize,
) -> list[np.ndarray]:
    """Standardized log-probability of each counted token but the first, for N texts.

    (log p(token) - mu) / sigma, where mu and sigma are mean and standard deviation of log p over
    the vocabulary, weighted by p itself: Min-K%++ (arXiv 2404.02936, eq. 3). A place where the
    model is certain (sigma 0) scores 0.

    Parameters
    ----------
    model, family
        As :func:`models.loading.load_checkpoint` returns them.
    token_ids, counted
        Texts of at least two tokens, and which tokens are scored; the first of a text never is.
    batch_size
        Texts per forward pass, as in :func:`models.forward.run_batches`.

    Returns
    -------
    list of N arrays [counted tokens], float64
    """
    check_samples(token_ids, counted, model.config)
    nothing = select_nothing(len(token_ids))
    scores: dict[int, np.ndarray] = {}

    @torch.inference_mode()
    def measure(batch: Batch) -> dict[str, torch.Tensor]:
        chunks = counted_logits(model, family, last_hidden(model, batch), batch)
        return {"scores_P": torch.cat([_standardized(logits, ids) for _, ids, logits in chunks])}

    for rows, results in run_batches(
        np.array([len(ids) for ids in token_ids], dtype=np.int32),
        batch_size,
        model.device,
        lambda rows: pad(token_ids, counted, rows, "right", "all", nothing),
        measure,
    ):
        ends = np.cumsum([sum(map(bool, counted[row][1:])) for row in rows])
        parts = np.split(results["scores_P"].numpy(), ends[:-1])
        scores |= dict(zip(rows.tolist(), parts, strict=True))
    return [scores[row] for row in range(len(token_ids))]


def _standardized(logits_PV: torch.Tensor, targets_P: torch.Tensor) -> torch.Tensor:
    logs_PV = logits_PV.double().log_softmax(dim=-1)
    shares_PV = logs_PV.exp()
    mean_P = (shares_PV * logs_PV).sum(dim=-1)
    variance_P = (shares_PV * (logs_PV - mean_P[:, None]).square()).sum(dim=-1)
    chosen_P = logs_PV.gather(1, targets_P[:, None])[:, 0]
    spread_P = variance_P.sqrt()
    return torch.where(spread_P > 1e-9, (chosen_P - mean_P) / spread_P.clamp_min(1e-9), 0.0)
