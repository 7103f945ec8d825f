"""All samples through a model, batch by batch: prepared ahead, halved when memory is short.

While the device computes one batch, a thread of the host prepares the next and the results of the
one before are on their way back.

Shape suffixes: N samples, B samples of a batch, T tokens of the longest of them, P tokens whose
loss counts, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from models.batches import Batch
from models.devices import fetch, free_memory, is_out_of_memory
from models.families.base import Family

BatchSize = int | Literal["auto"]

# Long samples make a batch smaller than requested: activations stay below a few GiB.
_MAX_TOKENS = 1 << 16
# Where more tokens at once are no faster: every expert has hundreds of them (CUDA), caches
# overflow (CPU).
_AUTO_TOKENS = {"cuda": 1 << 15, "cpu": 1 << 12}
# The largest part of memory that a batch of the CPU takes; a card has its own limit.
_MAX_LOGITS = {"cuda": 1 << 25, "cpu": 1 << 23}


@dataclass(frozen=True)
class Budget:
    """Most samples of a batch, and most tokens with the padding."""

    num_samples: int
    num_tokens: int

    @classmethod
    def of(cls, batch_size: BatchSize, device: torch.device) -> "Budget":
        """The budget of a batch size; `auto` counts tokens alone."""
        if batch_size != "auto":
            return cls(batch_size, _MAX_TOKENS)
        num_tokens = _AUTO_TOKENS[device.type]
        return cls(num_tokens, num_tokens)

    def num_rows(self, lengths_N: np.ndarray) -> int:
        """How many of the samples, the longest first, make the next batch; at least one."""
        size = min(self.num_samples, self.num_tokens // int(lengths_N[0]), len(lengths_N))
        return max(1, size)

    def halved(self, lengths_B: np.ndarray, device: torch.device, error: Exception) -> "Budget":
        """The budget after samples, the longest first, did not fit into memory."""
        if len(lengths_B) == 1:
            raise ValueError(
                f"one sample of {lengths_B[0]} tokens alone does not fit into the memory of "
                f"{device}; cut samples shorter (routing.max_length), compute in bfloat16 "
                "(routing.dtype), or take a device with more memory"
            ) from error
        return replace(self, num_tokens=len(lengths_B) * int(lengths_B[0]) // 2)


def run_batches(
    lengths_N: np.ndarray,
    batch_size: BatchSize,
    device: torch.device,
    prepare: Callable[[np.ndarray], Batch],
    compute: Callable[[Batch], dict[str, torch.Tensor]],
) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
    """Rows of each batch with their results, on the host.

    Samples of like length come together, the longest first. A batch that does not fit into memory
    is halved and computed again, and those after it are no larger.

    Parameters
    ----------
    lengths_N
        Tokens of each sample.
    batch_size
        Samples per batch, fewer where they are long; `auto`: as many as a budget of tokens allows.
    device
        Where `compute` gets its batches.
    prepare
        Returns the batch of some rows; runs in a thread of its own.
    compute
        Returns tensors of a batch; is called again with a smaller one after it ran out of memory.

    Raises
    ------
    ValueError
        When a sample alone does not fit into memory.
    """
    order = np.argsort(-lengths_N, kind="stable")
    budget, begin, behind = Budget.of(batch_size, device), 0, None

    def host_batch(rows: np.ndarray) -> Batch:
        batch = prepare(rows)
        return batch.pinned() if device.type == "cuda" else batch

    def rows_from(place: int) -> np.ndarray:
        left = order[place:]
        return left[: budget.num_rows(lengths_N[left])] if len(left) else left

    with ThreadPoolExecutor(1) as aside:
        rows = rows_from(0)
        ahead = aside.submit(host_batch, rows)
        while len(rows):
            following = rows_from(begin + len(rows))
            coming = aside.submit(host_batch, following) if len(following) else ahead
            try:
                results = fetch(compute(ahead.result().to(device)))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                budget = budget.halved(lengths_N[rows], device, error)
                results = None
            if results is None:  # out here the exception no longer holds what was computed
                free_memory()
                rows = rows_from(begin)
                ahead = aside.submit(host_batch, rows)
                continue
            if behind is not None:
                yield behind[0], behind[1]()
            behind = rows, results
            begin += len(rows)
            rows, ahead = following, coming
    if behind is not None:
        yield behind[0], behind[1]()


def last_hidden(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Final hidden states [B, T, D].

    Padding on the right needs no mask: a causal model does not look ahead. So attention can take
    its fastest kernels.
    """
    options = {}
    if batch.padded and batch.padding_side == "left":
        places_BT = (batch.mask_BT.long().cumsum(dim=-1) - 1).clamp(min=0)
        options = {"attention_mask": batch.mask_BT.long(), "position_ids": places_BT}
    hidden_BTD: torch.Tensor = model.base_model(
        input_ids=batch.input_ids_BT, use_cache=False, **options
    ).last_hidden_state
    return hidden_BTD


def counted_logits(
    model: PreTrainedModel, family: Family, hidden_BTD: torch.Tensor, batch: Batch
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Of tokens whose loss counts: their samples [P], ids [P], and logits [P, V], in chunks.

    The logits of a complete batch would be its largest tensor by far.
    """
    hidden_TD, ids_T = hidden_BTD.flatten(0, 1), batch.input_ids_BT.flatten()
    chunk = max(1, _MAX_LOGITS[hidden_BTD.device.type] // model.config.vocab_size)
    for places_P in batch.counted_P.split(chunk):
        samples_P = places_P // hidden_BTD.shape[1]
        yield samples_P, ids_T[places_P], family.logits(model, hidden_TD[places_P - 1])
