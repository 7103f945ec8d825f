"""Whether checkpoints are of one training: the same tokens, the same shape. No torch in here."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.checkpoint_files import CONFIG, TOKENIZER, belongs

SHAPE = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "num_experts",
    "n_routed_experts",
    "num_local_experts",
    "n_shared_experts",
    "num_experts_per_tok",
    "first_k_dense_replace",
    "decoder_sparse_step",
)
"""Fields of a configuration that decide a model's shape."""
_FILE = "tokenizer.json"
_PARTS = ("added_tokens", "model", "normalizer", "post_processor", "pre_tokenizer")


@dataclass(frozen=True)
class Member:
    """A checkpoint of a series: its name, its folder, and the digest of its tokenizer's files."""

    name: str
    folder: Path
    tokenizer_digest: str | None


def check_series(series: str, members: Sequence[Member]) -> None:
    """Refuse checkpoints that do not fit together: one curve would mix two models.

    `members` come in order of step. A tokenizer is read only where its digest is new.

    Raises
    ------
    ValueError
        Naming the first that differs from the first of all, in what, and what to do.
    """
    if not members:
        return
    first, shape = members[0], _shape(members[0].folder)
    known = {first.tokenizer_digest}
    for one in members[1:]:
        for field, value in _shape(one.folder).items():
            if value != shape.get(field, value):
                raise ValueError(
                    f"series {series!r}: {one.name} has {field} {value}, {first.name} has "
                    f"{shape[field]}; a series is one model while it is trained. Make two series "
                    "of them, or choose steps in the study"
                )
        if one.tokenizer_digest in known:
            continue
        known.add(one.tokenizer_digest)
        here, there = token_digests(one.folder), token_digests(first.folder)
        differing = [part for part in sorted(here | there) if here.get(part) != there.get(part)]
        if differing:
            raise ValueError(
                f"series {series!r}: the tokenizer of {one.name} is not that of {first.name} "
                f"({', '.join(differing)}), and one set of token ids is measured at all "
                "checkpoints. Put the tokenizer that the model was trained with beside each, make "
                "two series of them, or choose steps in the study"
            )


def token_digests(folder: Path) -> dict[str, str]:
    """Digest of each part of the tokenizer that decides ids; padding, cuts and its name do not."""
    files = {path.name: path for path in Path(folder).iterdir() if belongs(path.name, TOKENIZER)}
    if _FILE not in files:
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in files.items()
            if not name.startswith(("tokenizer_", "special_", "chat_template"))
        }
    state = json.loads(files[_FILE].read_bytes())
    # A tokenizer's model as all versions of the library write it.
    model = {name: value for name, value in state["model"].items() if value}
    if "merges" in model:
        model["merges"] = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    state["model"] = model
    return {
        f"{part} of {_FILE}": hashlib.sha256(json.dumps(state.get(part)).encode()).hexdigest()
        for part in _PARTS
    }


def _shape(folder: Path) -> dict[str, Any]:
    """Fields of a configuration that decide the shape; empty where there is no config.json."""
    file = Path(folder) / CONFIG
    if not file.is_file():
        return {}
    config = json.loads(file.read_bytes())
    text = {**config, **(config.get("text_config") or {})}
    return {field: text[field] for field in SHAPE if field in text}
