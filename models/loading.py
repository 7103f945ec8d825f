"""Checkpoint folders as models that are ready to be measured."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from models.checkpoints import weight_files
from models.devices import quiet_transformers, resolve_device
from models.families.base import Family
from models.families.registry import VIRTUAL_EXPERTS, family_of
from studies.checkpoint_files import CONFIG, SINGLE

COMPILED = r"_orig_mod\."  # as torch.compile begins the names of what it wraps
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
        As in :func:`models.devices.resolve_device`.
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
        damaged, it holds other tensors than the model has or NaN, no family reads the model, or
        there is no such device or dtype.
    """
    path = Path(path)
    with _naming(path):
        family = family_of(_model_type(path), virtual_experts)
    device = resolve_device(device)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    if device != "cpu":
        torch.cuda.set_device(device)  # some kernels go to the current device, not to their data's
    with _naming(path), quiet_transformers():
        model, loading = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=DTYPES[dtype],
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            device_map={"": device},  # straight there: the host never holds all of it
            output_loading_info=True,
            key_mapping={COMPILED: ""},
            ignore_mismatched_sizes=True,  # they are refused here, by name
        )
    _check_weights(path, model, loading)
    return model.eval(), family, device


def _check_weights(path: Path, model: PreTrainedModel, loading: Mapping[str, Any]) -> None:
    """Refuse weights that are not the model's: the library leaves them out and only warns."""
    missing, extra = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
    if missing:
        raise ValueError(
            f"{path} is not complete: weights of {len(missing)} parameters are missing, "
            f"{missing[0]} among them{_prefixed(missing, extra)}"
        )
    for name, found, expected in sorted(loading["mismatched_keys"]):
        raise ValueError(
            f"{path} holds {name} of shape {tuple(found)}, and its {CONFIG} describes one of shape "
            f"{tuple(expected)}; give it the config.json that it was trained with"
        )
    if extra:
        raise ValueError(
            f"{path} holds {len(extra)} tensors that {type(model).__name__} does not have, "
            f"{extra[0]} among them, so what was trained is not what its config.json describes; "
            "correct config.json, or save the checkpoint without them"
        )
    for name, weight in model.named_parameters():
        # One pass without a copy; NaN is both the least and the largest.
        if weight.numel() and not all(end.isfinite() for end in weight.aminmax()):
            kind = "NaN" if weight.isnan().any() else "infinite numbers"
            raise ValueError(
                f"{path} holds {kind} in {name}, so nothing can be measured on it: its training "
                "had diverged, or the file is damaged; leave it out, or save it again"
            )


def _prefixed(missing: list[str], extra: list[str]) -> str:
    """What to do where the names in the file only begin with something more."""
    for name in extra:
        prefix = next((name[: -len(one)] for one in missing if name.endswith(f".{one}")), None)
        if prefix:
            return (
                f"; the names in the file begin with {prefix!r}, as a wrapper of the model leaves "
                "them: save the model itself, without its wrapper"
            )
    return ""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the checkpoint of a damaged file, which the readers of safetensors and JSON do not."""
    try:
        yield
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} holds a damaged file, perhaps cut short while it was copied ({error}); fetch "
            "or save the checkpoint again"
        ) from error


def _model_type(path: Path) -> str:
    config_file = path / CONFIG
    if not config_file.is_file():
        raise ValueError(f"{path} is not a checkpoint: {CONFIG} is missing")
    weight_files(path)  # refuses what is not read
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if config.get("transformers_weights"):
        raise ValueError(
            f"{path}: {CONFIG} names the file of weights itself (transformers_weights: "
            f"{config['transformers_weights']}); remove the field and call the file {SINGLE}"
        )
    return str(config.get("model_type", ""))
