"""One step of a tuning: which samples it takes, their gradient within memory, and the update.

Shape suffixes: N samples, B samples of a forward pass, T tokens of the longest of them, P tokens
whose loss counts, D hidden size, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from models.batches import Batch, Selection, pad, select_nothing
from models.devices import free_memory, is_out_of_memory
from models.families.base import Family
from models.forward import counted_logits, last_hidden
from studies.settings import TuningSpec

MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Instructions:
    """N instructions with their answers as token ids, and in which steps they are learned."""

    token_ids: Sequence[Sequence[int]]
    counted: Sequence[Sequence[bool]]
    """For each token, whether it is the answer's."""
    spec: TuningSpec

    @property
    def steps_per_epoch(self) -> int:
        """The last of them may have fewer samples."""
        return math.ceil(len(self.token_ids) / self.spec.batch_size)

    @property
    def num_steps(self) -> int:
        """Steps of all epochs."""
        return self.spec.epochs * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """Epoch of a step; both begin at 1."""
        return (step - 1) // self.steps_per_epoch + 1

    def rows(self, step: int) -> np.ndarray:
        """Numbers of the samples of a step; every epoch has an order of its own."""
        order_N = _order(self.spec.seed, self.epoch(step), len(self.token_ids))
        begin = (step - 1) % self.steps_per_epoch * self.spec.batch_size
        return order_N[begin : begin + self.spec.batch_size]

    def batches(self, step: int, size: int) -> list[Batch]:
        """The samples of a step, at most `size` of them together."""
        rows = self.rows(step)
        return [
            pad(self.token_ids, self.counted, part, "right", "all", self._nothing)
            for part in np.split(rows, range(size, len(rows), size))
        ]

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then linear decay that ends above 0.

        Examples
        --------
        >>> spec = TuningSpec(learning_rate=1.0, warmup_share=0.25, batch_size=1, epochs=1)
        >>> eight = Instructions([[1, 2]] * 8, [[False, True]] * 8, spec)
        >>> [round(eight.learning_rate(step), 2) for step in range(1, 9)]
        [0.33, 0.67, 1.0, 0.83, 0.67, 0.5, 0.33, 0.17]
        """
        num_warmup = int(self.spec.warmup_share * self.num_steps)
        rising = step / (num_warmup + 1)
        falling = (self.num_steps + 1 - step) / (self.num_steps - num_warmup)
        return self.spec.learning_rate * min(rising, falling)

    @cached_property
    def _nothing(self) -> Selection:
        return select_nothing(len(self.token_ids))


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


class Stepper:
    """Takes the steps of one tuning.

    A step that does not fit into memory is computed again, first with activations computed twice
    instead of stored, which changes no number, then with half the samples at once, which changes
    rounding and where dropout falls. What did not fit is not tried again.

    Parameters
    ----------
    model, family
        The model with its adapter, in training mode.
    weights
        The adapter's.
    instructions
        What is learned.
    name
        Name of the checkpoint in messages.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        family: Family,
        weights: torch.nn.ParameterList,
        instructions: Instructions,
        name: str,
    ) -> None:
        self.model, self.family, self.weights = model, family, weights
        self.instructions, self.name = instructions, name
        self.optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
        self.size = instructions.spec.batch_size
        self.saving = not model.supports_gradient_checkpointing  # nothing left to be saved

    def take(self, step: int) -> float:
        """Update the adapter once; the mean loss of the step's answer tokens before the update.

        Raises
        ------
        ValueError
            When loss or gradient are not finite, or one sample alone does not fit into memory.
        """
        loss = self._fitted_gradient(step)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, MAX_GRADIENT_NORM).item()
        rate = self.instructions.learning_rate(step)
        if not math.isfinite(loss + norm):
            spec = self.instructions.spec
            raise ValueError(
                f"{self.name}: the loss of tuning step {step} is {loss} and its gradient's norm "
                f"{norm}, expected finite numbers: the tuning diverged at a learning rate of "
                f"{rate:g}; lower tuning.learning_rate (now {spec.learning_rate:g})"
                + ("" if spec.dtype == "float32" else ", or set tuning.dtype to float32")
            )
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return loss

    def _fitted_gradient(self, step: int) -> float:
        while True:
            try:
                return self._gradient(step)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._save_memory(step, error)
            free_memory()  # out here the exception no longer holds what was computed

    def _gradient(self, step: int) -> float:
        """Leave the gradient of the step's mean loss at the weights; returns that loss."""
        seed(self.instructions.spec.seed, step)
        self.optimizer.zero_grad(set_to_none=True)
        batches = self.instructions.batches(step, self.size)
        num_counted = sum(len(batch.counted_P) for batch in batches)
        return sum(self._add_gradient(batch, num_counted) for batch in batches)

    def _add_gradient(self, batch: Batch, num_counted: int) -> float:
        """Backward in two halves, at the final hidden states, so that logits last a chunk only."""
        batch = batch.to(self.model.device)
        hidden_BTD = last_hidden(self.model, batch)
        cut_BTD = hidden_BTD.detach().requires_grad_()
        total = 0.0
        for _, ids_P, logits_PV in counted_logits(self.model, self.family, cut_BTD, batch):
            loss = functional.cross_entropy(logits_PV.float(), ids_P, reduction="sum") / num_counted
            loss.backward()
            total += loss.item()
        if hidden_BTD.requires_grad:  # not where the output layer alone is a target
            hidden_BTD.backward(cut_BTD.grad)
        return total

    def _save_memory(self, step: int, error: Exception) -> None:
        if not self.saving:
            self.model.activation_checkpointing_enable()
            self.saving = True
        elif self.size > 1:
            self.size //= 2
        else:
            rows = self.instructions.rows(step)
            longest = max(len(self.instructions.token_ids[row]) for row in rows)
            raise ValueError(
                f"{self.name}: a sample of up to {longest} tokens alone does not fit into the "
                f"memory of {self.model.device} in tuning step {step}; lower tuning.max_length, "
                "set tuning.dtype to bfloat16, or take a device with more memory"
            ) from error


def seed(study_seed: int, step: int) -> None:
    """Set torch's random state to that of a step; step 0 is before the first."""
    state = np.random.SeedSequence([study_seed, step]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
