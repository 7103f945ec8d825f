"""Instruction tuning by LoRA: a small adapter beside frozen weights, trained on answers alone.

arXiv 2506.21551, sec. 3.1 and App. B. A tuning is a function of checkpoint, samples, settings,
device, number of threads and package versions: order and dropout of a step are drawn from the
study's seed and the step's number, so no random state has to survive a stop. One that was killed
goes on from its last state and, on the CPU, ends with the same bytes as one that was not. The
trainer of transformers is not used because it resumes from pickles.

Shape suffix: S optimizer steps.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from models.adapters import AdaptedModel, add_adapter, save_adapter, with_adapters
from models.batches import check_samples
from models.families.base import Family
from models.training_state import (
    TrainingState,
    commit_folder,
    deterministic,
    gather,
    load_state,
    restore,
    save_state,
    time_left,
)
from models.tuning_step import Instructions, Stepper, seed
from studies.settings import TuningSpec

__all__ = ["ADAPTER", "AdaptedModel", "TuningResult", "tune", "with_adapters"]

ADAPTER = "adapter"
STATES = "tuning_state"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TuningResult:
    """What a tuning did, step by step."""

    losses_S: np.ndarray
    """float64, nats: mean loss of the batch's answer tokens before its update."""
    learning_rates_S: np.ndarray
    """float64."""
    epochs_S: np.ndarray
    """int32, the first is 1."""
    num_trained_parameters: int
    """Weights of the adapter."""


def tune(
    model: PreTrainedModel,
    family: Family,
    token_ids: Sequence[Sequence[int]],
    counted: Sequence[Sequence[bool]],
    spec: TuningSpec,
    *,
    base: str,
    name: str,
    out: Path,
    on_progress: Progress | None = None,
    save_every: float = 60.0,
) -> TuningResult:
    """Tune an adapter and write it to `out/adapter`, or go on with a tuning that was stopped.

    AdamW without weight decay on the mean loss of a batch's answer tokens; gradients are clipped to
    norm 1. Every epoch takes all samples, in an order of its own. The model returns to its former
    state, without adapter. When memory is short, see :class:`models.tuning_step.Stepper`.

    Parameters
    ----------
    model, family
        As :func:`models.loading.load_checkpoint` returns them; runs where the model is.
    token_ids, counted
        Instructions with their answers, and which tokens are the answer's.
    spec
        Settings, of which dtype and max_length are those of the model and the samples.
    base
        Identity of the checkpoint, for the adapter's configuration.
    name
        Name of the checkpoint in messages.
    out
        Folder of this tuning alone. While it runs, `out/tuning_state` holds what a resumed tuning
        needs: three times the adapter.
    on_progress
        Called with (step, number of steps, message) after every step. What it raises stops the
        tuning.
    save_every
        Seconds between two states.

    Raises
    ------
    ValueError
        When a target is no linear layer, a sample has no answer, loss or gradient stop being
        finite, `out` holds another tuning, or one sample alone does not fit into memory.
    """
    check_samples(token_ids, counted, model.config)
    instructions = Instructions(token_ids, counted, spec)
    states = _States(
        out / STATES, _recipe(instructions, base), _environment(model.device), save_every
    )
    with _reproducible(model.device):
        seed(spec.seed, 0)
        adapted = add_adapter(model, spec)
        try:
            weights = torch.nn.ParameterList(w for w in adapted.parameters() if w.requires_grad)
            stepper = Stepper(model.train(), family, weights, instructions, name)
            losses_S = _take_all(stepper, states, on_progress)
            _write(adapted, out, base)
        finally:
            adapted.unload()
            model.activation_checkpointing_disable()
            model.eval()
    shutil.rmtree(out / STATES)
    steps = range(1, instructions.num_steps + 1)
    return TuningResult(
        losses_S=losses_S,
        learning_rates_S=np.array([instructions.learning_rate(step) for step in steps]),
        epochs_S=np.array([instructions.epoch(step) for step in steps], dtype=np.int32),
        num_trained_parameters=sum(weight.numel() for weight in weights),
    )


def _take_all(stepper: Stepper, states: "_States", on_progress: Progress | None) -> np.ndarray:
    """Take the steps that are left; the losses of all."""
    num_steps = stepper.instructions.num_steps
    curve = np.zeros((num_steps, 2))  # loss, samples at once
    first = states.restore(stepper, curve)
    started = time.monotonic()
    for step in range(first + 1, num_steps + 1):
        curve[step - 1] = stepper.take(step), stepper.size
        if on_progress is not None:
            left = time_left(started, step - first, num_steps - step)
            on_progress(step, num_steps, f"loss {curve[step - 1, 0]:.3f} | {left}")
        states.save(stepper, curve[:step], last=step == num_steps)
    return curve[:, 0]


class _States:
    """The folder of states from which a killed tuning goes on."""

    def __init__(self, folder: Path, recipe: str, environment: dict[str, Any], every: float):
        self.folder, self.recipe, self.environment = folder, recipe, environment
        self.every, self.saved = every, time.monotonic()

    def restore(self, stepper: Stepper, curve: np.ndarray) -> int:
        """Take a tuning to where the last one stopped; returns the steps it had taken."""
        state = load_state(self.folder)
        if state is None:
            return 0
        if state.recipe != self.recipe:
            raise ValueError(
                f"{self.folder.parent} holds another tuning (checkpoint, samples or settings "
                "differ); delete the folder or tune into another one"
            )
        if state.environment != self.environment:
            return 0
        restore(state, stepper.weights, stepper.optimizer)
        for moments in stepper.optimizer.state.values():
            for moment in ("exp_avg", "exp_avg_sq"):
                moments[moment] = moments[moment].to(stepper.model.device)
        curve[: state.step] = state.curve
        stepper.size = int(state.curve[-1, 1])
        return state.step

    def save(self, stepper: Stepper, curve: np.ndarray, *, last: bool) -> None:
        """Write a state when it is time, and after the last step."""
        if last or time.monotonic() - self.saved >= self.every:
            tensors = gather(stepper.weights, stepper.optimizer)
            state = TrainingState(len(curve), self.recipe, self.environment, curve, tensors)
            save_state(state, self.folder)
            self.saved = time.monotonic()


def _write(adapted: Any, out: Path, base: str) -> None:
    temporary = out / f".{ADAPTER}.tmp"
    for stale in (temporary, out / ADAPTER):
        shutil.rmtree(stale, ignore_errors=True)
    save_adapter(adapted, temporary, base)
    commit_folder(temporary, out / ADAPTER)


def _recipe(instructions: Instructions, base: str) -> str:
    digest = hashlib.sha256(f"{base}\n{instructions.spec.model_dump_json()}\n".encode())
    for ids, flags in zip(instructions.token_ids, instructions.counted, strict=True):
        digest.update(json.dumps([list(ids), list(flags)]).encode())
    return digest.hexdigest()


def _environment(device: torch.device) -> dict[str, Any]:
    """What changes the last digits of a tuning without being part of its recipe."""
    versions = {name: version(name) for name in ("torch", "transformers", "peft")}
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {**versions, "device": kind, "threads": torch.get_num_threads()}


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Leave torch's random state alone and, on the CPU, give the same digits every time."""
    on_card = device.type == "cuda"  # where some kernels have no reproducible form
    with (
        torch.random.fork_rng(devices=[device] if on_card else []),
        deterministic(not on_card),
    ):
        yield
