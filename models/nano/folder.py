"""The folder of one pretraining: checkpoints, loss curve, and the state to resume from."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.training_state import (
    TrainingState,
    commit_folder,
    gather,
    load_state,
    save_state,
    sync,
)
from studies.base import checkpoint_name
from studies.nano_model import PretrainingSpec

SAMPLE_LENGTH = 5  # tokens: four of the prompt and the answer


@dataclass(frozen=True)
class TrainingFolder:
    """The folder `out` of one pretraining, which writes it and resumes from it."""

    out: Path
    spec: PretrainingSpec
    recipe: str
    """Digest of all that is trained, stored with state and loss curve: a folder of another recipe
    is never overwritten."""
    environment: dict[str, Any]
    """What else decides the digits; a state of another environment is not resumed."""

    def is_finished(self) -> bool:
        """Whether the loss curve, which is written last, is there."""
        if not self._curve.is_file():
            return False
        metadata = pq.read_schema(self._curve).metadata or {}
        self._refuse_another(metadata.get(b"recipe", b"").decode())
        shutil.rmtree(self._state, ignore_errors=True)
        return True

    def resume_point(self) -> TrainingState | None:
        """State to go on from, None to begin; checkpoints beyond it are removed."""
        state = load_state(self._state)
        if state is not None:
            self._refuse_another(state.recipe)
            if state.environment != self.environment:
                state = None
        reached = -1 if state is None else state.step
        due = [self._checkpoint(step) for step in self.spec.checkpoint_steps if step <= reached]
        if not all(folder.is_dir() for folder in due):
            state, due = None, []
        checkpoints = self.out / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in checkpoints.iterdir():
            if folder not in due:
                shutil.rmtree(folder)
        return state

    def write_checkpoint(
        self,
        step: int,
        model: PreTrainedModel,
        words: PreTrainedTokenizerFast,
        optimizer: torch.optim.Optimizer,
        curve: np.ndarray,
    ) -> None:
        """Write a checkpoint in Hugging Face format, then the state that resumes from it."""
        final = self._checkpoint(step)
        temporary = final.with_name(f".{final.name}.tmp")
        model.save_pretrained(temporary)
        words.save_pretrained(temporary)
        commit_folder(temporary, final)
        tensors = gather(model, optimizer)
        state = TrainingState(step, self.recipe, self.environment, curve[:step], tensors)
        save_state(state, self._state)

    def finish(self, curve: np.ndarray, learning_rates: list[float], domains: list[str]) -> None:
        """Write the loss curve and drop the state.

        `curve` is float64 [steps, 2 + domains]: balancing loss, mean loss, loss of each domain.
        """
        names = ["all", *domains]
        steps = np.arange(1, len(curve) + 1, dtype=np.int32)
        table = pa.table(
            {
                "step": np.repeat(steps, len(names)),
                "domain": names * len(steps),
                "loss": curve[:, 1:].reshape(-1),
                "balancing_loss": np.repeat(curve[:, 0], len(names)),
                "learning_rate": np.repeat(learning_rates, len(names)),
            }
        ).replace_schema_metadata({"recipe": self.recipe})
        temporary = self._curve.with_name(f".{self._curve.name}.tmp")
        pq.write_table(table, temporary, compression="zstd")
        sync(temporary)
        temporary.rename(self._curve)
        sync(self.out)
        shutil.rmtree(self._state, ignore_errors=True)

    @property
    def _curve(self) -> Path:
        return self.out / "loss_curve.parquet"

    @property
    def _state(self) -> Path:
        return self.out / "training_state"

    def _checkpoint(self, step: int) -> Path:
        tokens_seen = step * self.spec.batch_size * SAMPLE_LENGTH
        return self.out / "checkpoints" / checkpoint_name(step, tokens_seen)

    def _refuse_another(self, recipe: str) -> None:
        if recipe != self.recipe:
            raise ValueError(
                f"{self.out} holds a training of another recipe (spec, corpus or shuffled answers "
                "differ); delete the folder or train into another one"
            )
