"""Samples of different lengths, put together as padded batches.

Shape suffixes: N samples, B samples of a batch, T tokens of the longest of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

# Long samples make a batch smaller than asked for: activations stay below a few GiB.
_MAX_TOKENS_PER_BATCH = 1 << 16
_CHOICE_SEED = 20250621
PaddingSide = Literal["left", "right"]
RoutedTokens = Literal["all", "inputs"]


@dataclass(frozen=True)
class Batch:
    """Padded samples.

    Attributes
    ----------
    input_ids_BT
        int64; any id where there is padding.
    mask_BT
        bool, True on real tokens.
    counted_BT
        bool, True on tokens whose loss counts; never on a sample's first token.
    routed_BT
        bool, True on tokens whose routing is averaged.
    kept_BT
        bool, True on tokens whose own routing is kept.
    in_kernel_B
        bool, True for samples whose block inputs are kept.
    """

    input_ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    counted_BT: torch.Tensor
    routed_BT: torch.Tensor
    kept_BT: torch.Tensor
    in_kernel_B: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(*(tensor.to(device) for tensor in vars(self).values()))

    def alone(self, row: int) -> "Batch":
        """One sample without its padding, of which nothing but means is kept."""
        real = self.mask_BT[row]
        input_ids_BT, mask_BT, counted_BT, routed_BT = (
            tensor[row][real][None]
            for tensor in (self.input_ids_BT, self.mask_BT, self.counted_BT, self.routed_BT)
        )
        nothing_BT = torch.zeros_like(mask_BT)
        return Batch(input_ids_BT, mask_BT, counted_BT, routed_BT, nothing_BT, nothing_BT[:, 0])


@dataclass(frozen=True)
class Kept:
    """What is kept of N samples beyond their mean routing weights.

    Attributes
    ----------
    positions
        For each sample, rising positions of the tokens whose own routing is kept.
    in_kernel_N
        bool, the samples whose mean block inputs are kept.
    """

    positions: Sequence[np.ndarray]
    in_kernel_N: np.ndarray


def choose_kept(
    num_tokens_N: np.ndarray, tokens: RoutedTokens, *, max_tokens: int, kernel_samples: int
) -> Kept:
    """Seeded choice of tokens and samples; equal lengths give equal choices at every checkpoint.

    Examples
    --------
    >>> kept = choose_kept(np.array([3, 2]), "inputs", max_tokens=10, kernel_samples=1)
    >>> [positions.tolist() for positions in kept.positions], int(kept.in_kernel_N.sum())
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
    return Kept(positions, in_kernel_N)


def keep_nothing(num_samples: int) -> Kept:
    """Of no sample anything but its mean."""
    nothing = np.zeros(0, dtype=np.int64)
    return Kept([nothing] * num_samples, np.zeros(num_samples, dtype=bool))


def length_batches(num_tokens_N: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Rows of each batch: samples of like length together, the longest first."""
    order = np.argsort(-num_tokens_N, kind="stable")
    while len(order):
        size = max(1, min(batch_size, _MAX_TOKENS_PER_BATCH // int(num_tokens_N[order[0]])))
        yield order[:size]
        order = order[size:]


def pad(
    token_ids: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    rows: np.ndarray,
    padding_side: PaddingSide,
    tokens: RoutedTokens,
    kept: Kept,
) -> Batch:
    """Put the samples of some rows together, filled up on one side to the longest."""
    shape = len(rows), max(len(token_ids[row]) for row in rows)
    input_ids_BT = np.zeros(shape, dtype=np.int64)  # any id does where the mask is False
    mask_BT = np.zeros(shape, dtype=bool)
    counted_BT = np.zeros(shape, dtype=bool)
    routed_BT = np.zeros(shape, dtype=bool)
    kept_BT = np.zeros(shape, dtype=bool)
    for index, row in enumerate(rows):
        length = len(token_ids[row])
        begin = 0 if padding_side == "right" else shape[1] - length
        place = index, slice(begin, begin + length)
        input_ids_BT[place] = token_ids[row]
        mask_BT[place] = True
        counted_BT[place] = counted[row]
        counted_BT[index, begin] = False  # predicted from nothing
        routed_BT[place] = True
        if tokens == "inputs":
            routed_BT[index, begin + length - 1] = False
        kept_BT[index, begin + kept.positions[row]] = True
    arrays = input_ids_BT, mask_BT, counted_BT, routed_BT, kept_BT, kept.in_kernel_N[rows]
    return Batch(*map(torch.from_numpy, arrays))


def check_samples(
    token_ids: Sequence[Sequence[int]], counted: Sequence[Sequence[bool]], vocab_size: int
) -> None:
    """Refuse samples that have no loss, or that the model cannot have been given."""
    if len(token_ids) == 0 or len(token_ids) != len(counted):
        raise ValueError(
            f"found {len(token_ids)} samples and {len(counted)} lists of counted tokens; expected "
            "as many of each, and at least one"
        )
    for number, (ids, flags) in enumerate(zip(token_ids, counted, strict=True)):
        if len(ids) != len(flags):
            raise ValueError(
                f"sample {number} has {len(ids)} tokens, but {len(flags)} say whether they count"
            )
        if not any(flags[1:]):
            raise ValueError(
                f"sample {number} ({len(ids)} tokens) has no token whose loss counts; the first "
                "token never does, because nothing predicts it"
            )
        if min(ids) < 0 or max(ids) >= vocab_size:
            raise ValueError(
                f"sample {number} has token ids from {min(ids)} to {max(ids)}, but the model knows "
                f"0 to {vocab_size - 1}; was it made with another tokenizer?"
            )
