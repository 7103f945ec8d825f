"""Which files are a checkpoint: one list for whoever identifies, downloads, loads or measures one.

What is in a folder or a revision and belongs to the model is read, or the checkpoint is refused;
nothing of it is passed over (:func:`refusal`).
"""

import re
from collections.abc import Collection, Set
from fnmatch import fnmatch

CONFIG = "config.json"
CONFIGURATION = (CONFIG, "generation_config.json")
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"^model-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors$")
ADAPTER = "adapter_config.json"
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)
"""Without one of these the library makes a tokenizer that knows no word, and says nothing."""
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "*.model",
    "*.tiktoken",
    "tekken*.json",
)
COUNTED = (*CONFIGURATION, "*.safetensors", "*.safetensors.index.json", ADAPTER, *TOKENIZER)
"""What decides what a checkpoint computes; a README beside it does not."""

_UNREAD = re.compile(r"\.(bin|pt|pth|ckpt|pkl|distcp|gguf|h5|msgpack)$")
_TRAINING_STATE = re.compile(
    r"^(training_args|optimizer|scheduler|scaler|rng_state|random_states)|_states\.pt$"
)
MERGED = "merge_and_unload() of peft, then save_pretrained() into a new folder"


def belongs(name: str, patterns: Collection[str] = COUNTED) -> bool:
    """Whether a file, by its name without folder, is one of these.

    >>> belongs("spiece.model"), belongs("README.md"), belongs("original/tokenizer.model")
    (True, False, False)
    """
    return "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)


def refusal(names: Set[str], indexed: Set[str] | None = None) -> str | None:
    """Why a checkpoint with these files is never read, however long one waits, and what to do.

    Parameters
    ----------
    names
        All files of its folder or revision.
    indexed
        The files of weights that its index names, where the index can be read.

    Examples
    --------
    >>> refusal({"config.json", "pytorch_model.bin"})[:63]
    'has its weights only as pytorch_model.bin, which is not read, b'
    """
    shards = {name for name in names if SHARD.match(name)}
    sharded = shards | ((indexed or set()) & names)
    if ADAPTER in names and not sharded | ({SINGLE, INDEX} & names):
        return f"is an adapter ({ADAPTER}) without its model: merge the two ({MERGED})"
    if ADAPTER in names:
        return (
            f"has weights and an adapter ({ADAPTER}), and nothing says whether the weights contain "
            f"the adapter already: where they do, delete {ADAPTER} and adapter_model.safetensors; "
            f"where they do not, merge them ({MERGED})"
        )
    if SINGLE in names and sharded - {SINGLE}:
        return (
            f"has two sets of weights, {SINGLE} and {len(sharded - {SINGLE})} others "
            f"({min(sharded - {SINGLE})} first): delete the one that is not this checkpoint's"
        )
    if indexed is not None and shards - indexed:
        return (
            f"has {min(shards - indexed)}, which {INDEX} does not name: delete what is left of "
            "other weights, or save the checkpoint again"
        )
    unread = sorted(n for n in names if _UNREAD.search(n) and not _TRAINING_STATE.search(n))
    if unread and not any(name.endswith((".safetensors", INDEX)) for name in names):
        return (
            f"has its weights only as {', '.join(unread[:3])}, which is not read, because pickled "
            f"weights can run any code; expected {SINGLE}, or {INDEX} with its files. Save it as "
            "safetensors: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        )
    return None
