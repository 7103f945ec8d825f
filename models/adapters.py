"""LoRA adapters: put on a model, written, and switched on for scoring. The only import of peft."""

import difflib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from studies.settings import TuningSpec

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def add_adapter(model: PreTrainedModel, spec: TuningSpec) -> PeftModel:
    """Put a fresh adapter on a model, in place; after that only the adapter can be trained.

    It begins as the identity: one of its two factors is zero, the other is drawn from torch's
    global random state. Its weights are float32, whatever the model's are. `unload()` of what is
    returned takes it off again.

    Raises
    ------
    ValueError
        When a target is no linear layer of the model.
    """
    _check_targets(model, spec.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=list(spec.targets),
        r=spec.rank,
        lora_alpha=2 * spec.rank if spec.alpha is None else spec.alpha,
        lora_dropout=spec.dropout,
    )
    with _quiet():
        adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    return adapted


def save_adapter(adapted: PeftModel, folder: Path, base: str) -> None:
    """Write an adapter as peft does: adapter_config.json and adapter_model.safetensors.

    `base` is the model in the configuration: a commit or digest, not a path. Equal adapters give
    equal bytes.
    """
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = base
    config.target_modules = sorted(config.target_modules)  # a set, whose order differs by process
    # Embeddings are never trained; by default peft would query the hub about them.
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink()  # a form to be filled in


class AdaptedModel:
    """A model with the adapters of several domains, of which one or none is active.

    Adapters are not merged into the weights, so one model serves all, and what is computed is what
    `lm_eval --model hf --model_args pretrained=...,peft=...` computes. The model does not change:
    its class, its `base_model` and its mixture-of-experts layers are found as before.
    """

    def __init__(self, model: PreTrainedModel, folders: Mapping[str, Path]) -> None:
        self._model = model
        self._adapted: PeftModel | None = None
        names: dict[Path, str] = {}
        for folder in dict.fromkeys(folders.values()):
            names[folder] = f"adapter{len(names)}"  # a domain's name may be one that torch refuses
            self._load(folder, names[folder])
        self._names = {domain: names[folder] for domain, folder in folders.items()}
        self.use(None)

    def use(self, domain: str | None) -> PreTrainedModel:
        """The model with one domain's adapter active, or as it is without any.

        It is the same object every time, so score with it before the next call.
        """
        if domain is not None and domain not in self._names:
            raise ValueError(
                f"no adapter for domain {domain!r}; there are "
                f"{', '.join(self._names) or 'none'}. Use None for the model as it is"
            )
        if self._adapted is not None:
            if domain is None:
                self._adapted.base_model.disable_adapter_layers()
            else:
                self._adapted.base_model.enable_adapter_layers()
                self._adapted.set_adapter(self._names[domain], inference_mode=True)
        return self._model

    def _load(self, folder: Path, name: str) -> None:
        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise ValueError(f"{folder} is no adapter: {file} is missing; tune again")
        if self._adapted is None:
            config = LoraConfig.from_pretrained(str(folder))
            with _quiet():
                self._adapted = PeftModel(self._model, config, name, low_cpu_mem_usage=True)
        place = str(self._model.device)
        try:
            loaded = self._adapted.load_adapter(
                str(folder), name, torch_device=place, low_cpu_mem_usage=True
            )
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise ValueError(
                f"{folder} is an adapter of another model: its weights have other shapes than "
                "this model's layers; tune again"
            ) from error
        strange = [*loaded.missing_keys, *loaded.unexpected_keys]
        if strange:
            raise ValueError(
                f"{folder} is an adapter of another model: {len(strange)} of its weights have no "
                f"counterpart, {strange[0]} among them; tune again"
            )


def with_adapters(model: PreTrainedModel, folders: Mapping[str, Path]) -> AdaptedModel:
    """Load the adapters of domains beside a model; domains with one folder share one adapter.

    The model is changed in place, is in evaluation mode, and computes as before until an adapter
    is chosen with :meth:`AdaptedModel.use`. Nothing random is drawn.

    Raises
    ------
    ValueError
        When a folder holds no adapter as safetensors, or one of another model.
    """
    return AdaptedModel(model, folders)


def _check_targets(model: PreTrainedModel, targets: tuple[str, ...]) -> None:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    missing = [
        target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)
    ]
    if not missing:
        return
    known = sorted({name.rpartition(".")[2] for name in names})
    near = difflib.get_close_matches(missing[0], known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
    fused = sorted(
        {name.rpartition(".")[2] for name, weight in model.named_parameters() if weight.ndim == 3}
    )
    about_experts = (
        f" Experts are fused ({', '.join(fused)}) and no linear layers, so they cannot be targets."
        if fused
        else ""
    )
    raise ValueError(
        f"tuning.targets names {', '.join(missing)}, which is no linear layer of the model; "
        f"{hint}{about_experts}"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings that peft calls transformers in a deprecated way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
