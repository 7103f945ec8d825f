"""Samples of different lengths, put together as padded batches.

Shape suffixes: N samples, B samples of a batch, T tokens of the longest of them, P tokens whose
loss counts, Q selected tokens, S samples of the kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
_CHOICE_SEED = 20250621
PaddingSide = Literal["left", "right"]
RoutedTokens = Literal["all", "inputs"]


@dataclass(frozen=True)
class Batch:
    """Padded samples.

    Tokens to be looked up are given by place, not by mask: to find the places of a mask the host
    would have to wait for the device.
    """

    input_ids_BT: torch.Tensor
    """int64; any id where there is padding."""
    mask_BT: torch.Tensor
    """bool, True on real tokens."""
    routed_BT: torch.Tensor
    """bool, True on tokens whose routing is averaged."""
    counted_P: torch.Tensor
    """int64, rising places in the flattened batch of tokens whose loss counts; never a sample's
    first token."""
    selected_Q: torch.Tensor
    """int64, rising places in the flattened batch of tokens whose own routing is returned."""
    kernel_S: torch.Tensor
    """int64, rising numbers of the samples whose block inputs are returned."""
    padded: bool
    """Whether any sample has padding."""
    padding_side: PaddingSide

    def to(self, device: torch.device) -> Self:
        """The batch on a device; pinned memory is copied without waiting."""
        return replace(
            self, **{name: one.to(device, non_blocking=True) for name, one in self._tensors()}
        )

    def pinned(self) -> Self:
        """The batch in memory that a CUDA device can fetch by itself."""
        return replace(self, **{name: one.pin_memory() for name, one in self._tensors()})

    def alone(self, row: int) -> Self:
        """One sample without its padding, of which only means are returned."""
        real = self.mask_BT[row]
        parts = {
            name: getattr(self, name)[row][real][None]
            for name in ("input_ids_BT", "mask_BT", "routed_BT")
        }
        nothing = self.kernel_S[:0]
        return replace(
            self, **parts, counted_P=nothing, selected_Q=nothing, kernel_S=nothing, padded=False
        )

    def _tensors(self) -> list[tuple[str, Any]]:
        return [(name, one) for name, one in vars(self).items() if isinstance(one, torch.Tensor)]


@dataclass(frozen=True)
class Selection:
    """Tokens and samples of which more than mean routing weights is returned."""

    positions: Sequence[np.ndarray]
    """For each sample, rising positions of the tokens whose own routing is returned."""
    in_kernel_N: np.ndarray
    """bool, the samples whose mean block inputs are returned."""


def select_tokens(
    num_tokens_N: np.ndarray, tokens: RoutedTokens, *, max_tokens: int, kernel_samples: int
) -> Selection:
    """Seeded choice of tokens and samples; equal lengths give equal choices at every checkpoint.

    Examples
    --------
    >>> chosen = select_tokens(np.array([3, 2]), "inputs", max_tokens=10, kernel_samples=1)
    >>> [positions.tolist() for positions in chosen.positions], int(chosen.in_kernel_N.sum())
    ([[0, 1], [0]], 1)
    """
    rng = np.random.default_rng(_CHOICE_SEED)
    num_routed_N = num_tokens_N - (1 if tokens == "inputs" else 0)
    begins_N = np.concatenate([[0], np.cumsum(num_routed_N)])
    chosen = np.arange(begins_N[-1])
    if len(chosen) > max_tokens:
        chosen = np.sort(rng.choice(len(chosen), max_tokens, replace=False))
    inner = np.searchsorted(chosen, begins_N)
    positions = [chosen[inner[n] : inner[n + 1]] - begins_N[n] for n in range(len(num_tokens_N))]
    in_kernel_N = np.zeros(len(num_tokens_N), dtype=bool)
    size = min(kernel_samples, len(num_tokens_N))
    in_kernel_N[rng.choice(len(num_tokens_N), size, replace=False)] = True
    return Selection(positions, in_kernel_N)


def select_nothing(num_samples: int) -> Selection:
    """Only the means of each sample."""
    nothing = np.zeros(0, dtype=np.int64)
    return Selection([nothing] * num_samples, np.zeros(num_samples, dtype=bool))


def pad(
    token_ids: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    rows: np.ndarray,
    padding_side: PaddingSide,
    tokens: RoutedTokens,
    selection: Selection,
) -> Batch:
    """Put the samples of some rows together, padded on one side to the longest."""
    lengths = [len(token_ids[row]) for row in rows]
    shape = len(rows), max(lengths)
    input_ids_BT = np.zeros(shape, dtype=np.int64)  # any id does where the mask is False
    mask_BT, counted_BT, routed_BT, selected_BT = np.zeros((4, *shape), dtype=bool)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        begin = 0 if padding_side == "right" else shape[1] - length
        place = index, slice(begin, begin + length)
        input_ids_BT[place] = token_ids[row]
        mask_BT[place] = True
        counted_BT[place] = counted[row]
        counted_BT[index, begin] = False  # predicted from nothing
        routed_BT[place] = True
        if tokens == "inputs":
            routed_BT[index, begin + length - 1] = False
        selected_BT[index, begin + selection.positions[row]] = True
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        mask_BT=torch.from_numpy(mask_BT),
        routed_BT=torch.from_numpy(routed_BT),
        counted_P=torch.from_numpy(np.flatnonzero(counted_BT)),
        selected_Q=torch.from_numpy(np.flatnonzero(selected_BT)),
        kernel_S=torch.from_numpy(np.flatnonzero(selection.in_kernel_N[rows])),
        padded=min(lengths) < shape[1],
        padding_side=padding_side,
    )


def num_positions(config: Any) -> int | None:
    """Tokens that a model was built for; None where its configuration has none."""
    text = config.get_text_config()
    return next((int(getattr(text, name)) for name in POSITIONS if getattr(text, name, None)), None)


def check_samples(
    token_ids: Sequence[Sequence[int]], counted: Sequence[Sequence[bool]], config: Any
) -> None:
    """Refuse samples that have no loss, or that the model cannot have been given.

    `config` is that of the model, a configuration of transformers.
    """
    vocab_size, longest = config.vocab_size, num_positions(config)
    if len(token_ids) == 0 or len(token_ids) != len(counted):
        raise ValueError(
            f"found {len(token_ids)} samples and {len(counted)} lists of counted tokens; expected "
            "as many of each, and at least one"
        )
    for number, (ids, flags) in enumerate(zip(token_ids, counted, strict=True)):
        if len(ids) != len(flags):
            raise ValueError(
                f"sample {number} has {len(ids)} tokens, but {len(flags)} flags of what counts"
            )
        if not any(flags[1:]):
            raise ValueError(
                f"sample {number} ({len(ids)} tokens) has no token whose loss counts; the first "
                "token never does, because nothing predicts it"
            )
        if min(ids) < 0 or max(ids) >= vocab_size:
            raise ValueError(
                f"sample {number} has token ids from {min(ids)} to {max(ids)}, but the model knows "
                f"0 to {vocab_size - 1}; are they of another tokenizer?"
            )
        if longest is not None and len(ids) > longest:
            raise ValueError(
                f"sample {number} has {len(ids)} tokens, and the model was built for {longest} "
                "(max_position_embeddings in its config.json); lower max_length to that"
            )
