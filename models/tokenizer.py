"""The tokenizer beside a checkpoint: one way to load it, for samples, tuning and benchmarks.

The ids that are measured are those of tokenizer.json, because a model is trained on what its file
says. transformers chooses a class by the model's type, and some classes (GPTNeoX, Qwen2, GPT2)
rebuild the tokenizer from the vocabulary alone: a normalizer, a pre-tokenizer or a post-processor
of the file's own is dropped, and with it a beginning-of-text token.
"""

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from studies.checkpoint_files import VOCABULARIES

FILE = "tokenizer.json"
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "model", "decoder")
PROBES = (
    "The Sum of 48213 and 7 is 48220.",
    " leading  and   inner spaces\t\ttabs \n\nnew lines ",
    "def f(x_1): return {'a': [x_1 ** 2, 0.5e-3]}  # comment",
    "na\u00efve cafe\u0301 \u00dcber STRASSE \ufb01 \u2460 \u216b",  # composed, decomposed, wide
    "数学 и математика, رياضيات, 수학 🙂👩‍🚀",
    "Question: what's 1,000,000 / 3?\nAnswer: We'll see, they'd said it's 333333.33",
)

logger = logging.getLogger("grokpath.models")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved beside a checkpoint; where tokenizer.json is there, with its ids.

    The class that transformers has for the model is used where it leaves the file as it is;
    elsewhere the file itself, with the special tokens that its configuration or the class name.
    Where their ids differ on :data:`PROBES`, a line in the log says so.

    Raises
    ------
    ValueError
        Naming the folder: it holds no tokenizer, or one that cannot be read.
    """
    folder = Path(folder)
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ValueError(
            f"{folder} holds no tokenizer: expected one of {', '.join(VOCABULARIES)} beside "
            "the weights; save the model's tokenizer there"
        )
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        named = AutoTokenizer.from_pretrained(folder, **local)
        if not (folder / FILE).is_file():
            return named
        own = Tokenizer.from_file(str(folder / FILE))
        if _parts(_backend(named)) == _parts(own):
            return named
        special = {
            role: token
            for role, token in named.special_tokens_map.items()
            if isinstance(token, str) and own.token_to_id(token) is not None
        }
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, **local, **special)
    except Exception as error:  # the libraries raise nothing more special for a damaged file
        raise ValueError(
            f"{folder}: the tokenizer cannot be read ({error}); save the model's tokenizer again"
        ) from error
    expected = _ids_of_file(own)
    if _ids(tokenizer) != expected:
        raise ValueError(
            f"{folder}: transformers does not read {FILE} as it is written, so the ids that the "
            "model was trained on cannot be had; save the tokenizer again with this version"
        )
    if _ids(named) != expected:
        _tell_other_class(type(named).__name__)
    return tokenizer


@lru_cache
def _tell_other_class(name: str) -> None:
    logger.warning(
        "%s gives other token ids than the %s that lies beside the weights; the file's are used, "
        "for samples, tuning and benchmarks",
        name,
        FILE,
    )


def _backend(tokenizer: Any) -> Tokenizer | None:
    return getattr(tokenizer, "backend_tokenizer", None)


def _parts(backend: Tokenizer | None) -> dict[str, Any] | None:
    """What decides the ids of a text, apart from added tokens."""
    if backend is None:
        return None
    state = json.loads(backend.to_str())
    return {name: state[name] for name in PARTS}


def _ids(tokenizer: Any) -> list[list[int]]:
    return [list(tokenizer(text, verbose=False)["input_ids"]) for text in PROBES]


def _ids_of_file(own: Tokenizer) -> list[list[int]]:
    own.no_padding()
    own.no_truncation()
    return [encoding.ids for encoding in own.encode_batch(list(PROBES))]
