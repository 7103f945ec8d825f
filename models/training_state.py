"""What a killed training needs to go on: weights, optimizer moments, loss curve and step.

A state is a folder `step<N>` with `tensors.safetensors` and `state.json`. It is written under a
temporary name, synced and renamed, so a state under its own name is complete; only then are older
ones deleted. Nothing is pickled.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


@dataclass(frozen=True)
class TrainingState:
    """What step N + 1 needs of the N steps that were taken."""

    step: int
    recipe: str
    """Digest of what is trained (spec, samples); another recipe must not be resumed."""
    environment: dict[str, Any]
    """What else decides the digits: package versions and number of threads."""
    curve: np.ndarray
    """float64 [steps taken, columns]: the loss curve so far."""
    tensors: dict[str, torch.Tensor]
    """Weights and optimizer moments by name."""


def gather(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Copy the weights and AdamW's moments out of a training."""
    tensors = {}
    for name, weight in model.named_parameters():
        tensors[f"weight/{name}"] = weight.detach().clone()
        for moment in ("exp_avg", "exp_avg_sq"):
            if weight in optimizer.state:
                tensors[f"{moment}/{name}"] = optimizer.state[weight][moment].clone()
    return tensors


def restore(state: TrainingState, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put weights and moments back; the training then goes on as if it had not stopped."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(state.tensors[f"weight/{name}"])
            if state.step > 0:
                # Cloned, because tensors of a mapped file may be aligned differently in memory,
                # and then other vector instructions give other last digits.
                optimizer.state[weight] = {
                    "step": torch.tensor(float(state.step)),
                    "exp_avg": state.tensors[f"exp_avg/{name}"].clone(),
                    "exp_avg_sq": state.tensors[f"exp_avg_sq/{name}"].clone(),
                }


def save_state(state: TrainingState, folder: Path) -> None:
    """Write a state, then delete the older ones."""
    final = folder / f"step{state.step}"
    temporary = folder / f".step{state.step}.tmp"
    for stale in (temporary, final):
        shutil.rmtree(stale, ignore_errors=True)
    temporary.mkdir(parents=True)
    curve = torch.from_numpy(np.ascontiguousarray(state.curve))
    save_file({**state.tensors, "curve": curve}, temporary / "tensors.safetensors")
    header = {"step": state.step, "recipe": state.recipe, "environment": state.environment}
    (temporary / "state.json").write_text(json.dumps(header, sort_keys=True), encoding="utf-8")
    commit_folder(temporary, final)
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other)


def load_state(folder: Path) -> TrainingState | None:
    """Read the last complete state; None when there is none.

    A damaged state (a full disk, a bad copy) counts as none: its steps can be taken again, while an
    error would stop every later run.
    """
    steps = [path.name.removeprefix("step") for path in folder.glob("step*")]
    for step in sorted((int(step) for step in steps if step.isdecimal()), reverse=True):
        try:
            return _read_state(folder / f"step{step}", step)
        except (SafetensorError, ValueError, KeyError, TypeError, FileNotFoundError):
            continue
    return None


def _read_state(path: Path, step: int) -> TrainingState:
    header = json.loads((path / "state.json").read_text(encoding="utf-8"))
    tensors = load_file(path / "tensors.safetensors")
    curve = tensors.pop("curve").numpy().copy()
    if header["step"] != step or len(curve) != step:
        raise ValueError(f"{path} holds step {header['step']} and {len(curve)} steps of the curve")
    return TrainingState(step, header["recipe"], header["environment"], curve, tensors)


def commit_folder(temporary: Path, final: Path) -> None:
    """Sync a folder's files to the disk and give the folder its name in one move."""
    for file in temporary.iterdir():
        sync(file)
    sync(temporary)
    temporary.rename(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def deterministic(enabled: bool = True) -> Iterator[None]:
    """Set torch to give the same digits every time, and set it back."""
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(enabled)
    # Nothing here reads memory before writing it, and filling it costs a step 1 ms of 55.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(before)


def time_left(started: float, done: int, left: int) -> str:
    """Minutes and seconds for the steps that are left, as fast as those since `started`."""
    minutes, seconds = divmod(round((time.monotonic() - started) / done * left), 60)
    return f"{minutes}:{seconds:02d} left"
