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
    """

    input_ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    counted_BT: torch.Tensor
    routed_BT: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(*(tensor.to(device) for tensor in vars(self).values()))

    def alone(self, row: int) -> "Batch":
        """One sample without its padding."""
        real = self.mask_BT[row]
        return Batch(*(tensor[row][real][None] for tensor in vars(self).values()))


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
) -> Batch:
    """Put the samples of some rows together, filled up on one side to the longest."""
    shape = len(rows), max(len(token_ids[row]) for row in rows)
    input_ids_BT = np.zeros(shape, dtype=np.int64)  # any id does where the mask is False
    mask_BT = np.zeros(shape, dtype=bool)
    counted_BT = np.zeros(shape, dtype=bool)
    routed_BT = np.zeros(shape, dtype=bool)
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
    return Batch(*map(torch.from_numpy, (input_ids_BT, mask_BT, counted_BT, routed_BT)))


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
