"""How likely a model finds single tokens, compared with what else could have stood there.

Shapes: N texts, P positions, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from models.batches import Batch, check_samples, keep_nothing, pad
from models.families.base import Family
from models.forward import BatchSize, counted_logits, last_hidden, run_batches


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
        As `models.loading.load_checkpoint` returns them.
    token_ids
        Texts of at least two tokens.
    counted
        Which tokens are asked about; the first of a text never is.
    batch_size
        Texts per forward pass; fewer where they are long, and where memory is short
        (:func:`models.forward.run_batches`). `auto` finds how many by itself.

    Returns
    -------
    list of N arrays [counted tokens], float64
    """
    check_samples(token_ids, counted, model.config)
    nothing = keep_nothing(len(token_ids))
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
