"""Checkpoint folders as models that are ready to be measured."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from models.devices import resolve_device
from models.families.base import Family
from models.families.registry import VIRTUAL_EXPERTS, family_of
from models.quiet import no_progress_bars

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_checkpoint(
    path: Path, device: str, dtype: str, virtual_experts: int = VIRTUAL_EXPERTS
) -> tuple[PreTrainedModel, Family, str]:
    """Load a checkpoint folder for measuring: local safetensors only, no code from the folder.

    Parameters
    ----------
    path
        Folder in Hugging Face format.
    device
        `cpu`, `cuda`, `cuda:1`, or `auto`: CUDA where there is a device.
    dtype
        `float32` or `bfloat16`.
    virtual_experts
        Blocks of neurons that count as experts of a layer where the model is dense.

    Returns
    -------
    tuple
        The model in evaluation mode, its family, and the device it is on.

    Raises
    ------
    ValueError
        When the folder is not a complete checkpoint with safetensors weights, a file in it is
        damaged, no family reads the model, or there is no such device or dtype.
    """
    path = Path(path)
    with _naming(path):
        family = family_of(_model_type(path), virtual_experts)
    device = resolve_device(device)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    if device != "cpu":
        torch.cuda.set_device(device)  # some kernels go to the current device, not to their data's
    with _naming(path), no_progress_bars():
        model, loading = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=DTYPES[dtype],
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **({} if family.virtual else {"experts_implementation": "grouped_mm"}),
            device_map={"": device},  # straight there: the host never holds all of it
            output_loading_info=True,
        )
    if loading["missing_keys"]:
        # The library would leave random weights there and only warn.
        missing = sorted(loading["missing_keys"])
        raise ValueError(
            f"{path} is not complete: weights of {len(missing)} parameters are missing, "
            f"{missing[0]} among them"
        )
    return model.eval(), family, device


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which checkpoint a file is damaged: the readers of safetensors and JSON do not."""
    try:
        yield
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} holds a damaged file, perhaps cut short while it was copied ({error}); fetch "
            "or save the checkpoint again"
        ) from error


def _model_type(path: Path) -> str:
    config = path / "config.json"
    if not config.is_file():
        raise ValueError(f"{path} is not a checkpoint: config.json is missing")
    if not any(path.glob("*.safetensors")):
        others = sorted(
            file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in path.glob(pattern)
        )
        found = f"found only {', '.join(others)}" if others else "found no weights"
        raise ValueError(
            f"{path}: expected *.safetensors weights, {found}; pickled weights are not loaded "
            "because they can run code, convert them to safetensors"
        )
    return str(json.loads(config.read_text(encoding="utf-8")).get("model_type", ""))
