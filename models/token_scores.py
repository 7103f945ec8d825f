"""How likely a model finds single tokens, compared with what else could have stood there.

Shapes: N texts, P positions, D hidden size, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from models.batches import keep_nothing, length_batches, pad
from models.families.base import Family

_MAX_LOGITS_PER_CHUNK = 1 << 25


@torch.inference_mode()
def token_scores(
    model: PreTrainedModel,
    family: Family,
    token_ids: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    *,
    batch_size: int,
) -> list[np.ndarray]:
    """Standardized log-probability of each counted token but the first, for N texts.

    (log p(token) - mu) / sigma, where mu and sigma are mean and standard deviation of log p over
    the vocabulary, weighted by p itself: Min-K%++ (arXiv 2404.02936, eq. 3). A place where the
    model is certain (sigma 0) scores 0.

    Parameters
    ----------
    model, family
        As `models.extraction.load_checkpoint` returns them.
    token_ids
        Texts of at least two tokens.
    counted
        Which tokens are asked about; the first of a text never is.
    batch_size
        Texts per forward pass; fewer where they are long.

    Returns
    -------
    list of N arrays [counted tokens], float64
    """
    lengths_N = np.array([len(ids) for ids in token_ids], dtype=np.int32)
    scores: dict[int, np.ndarray] = {}
    chunk = max(1, _MAX_LOGITS_PER_CHUNK // model.config.vocab_size)
    for rows in length_batches(lengths_N, batch_size):
        batch = pad(token_ids, counted, rows, "right", "all", keep_nothing(len(token_ids)))
        batch = batch.to(model.device)
        hidden_BTD = model.base_model(
            input_ids=batch.input_ids_BT, attention_mask=batch.mask_BT.long(), use_cache=False
        ).last_hidden_state
        samples_P, positions_P = batch.counted_BT.nonzero(as_tuple=True)
        found = [
            _standardized(
                family.logits(model, hidden_BTD[samples_P[part], positions_P[part] - 1]),
                batch.input_ids_BT[samples_P[part], positions_P[part]],
            )
            for part in (slice(at, at + chunk) for at in range(0, len(samples_P), chunk))
        ]
        scores_P = torch.cat(found).cpu().numpy()
        ends = np.cumsum(batch.counted_BT.sum(dim=1).cpu().numpy())
        scores |= dict(zip(rows.tolist(), np.split(scores_P, ends[:-1]), strict=True))
    return [scores[row] for row in range(len(token_ids))]


def _standardized(logits_PV: torch.Tensor, targets_P: torch.Tensor) -> torch.Tensor:
    logs_PV = logits_PV.double().log_softmax(dim=-1)
    shares_PV = logs_PV.exp()
    mean_P = (shares_PV * logs_PV).sum(dim=-1)
    variance_P = (shares_PV * (logs_PV - mean_P[:, None]).square()).sum(dim=-1)
    chosen_P = logs_PV.gather(1, targets_P[:, None])[:, 0]
    spread_P = variance_P.sqrt()
    return torch.where(spread_P > 1e-9, (chosen_P - mean_P) / spread_P.clamp_min(1e-9), 0.0)
