"""The tokenizer beside a checkpoint, for samples, tuning and benchmarks, and texts as its tokens.

The ids that are measured are those of tokenizer.json, because a model is trained on those of its
file. transformers chooses a class by the model's type, and some classes (GPTNeoX, Qwen2, GPT2)
rebuild the tokenizer from the vocabulary alone: they drop a normalizer, a pre-tokenizer or a
post-processor of the file, and with it a beginning-of-text token.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.records import Text
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
    """The tokenizer saved beside a checkpoint, with the ids of tokenizer.json if there is one.

    The class that transformers has for the model is used where it reads the file unchanged;
    elsewhere the file itself, with the special tokens of its configuration or the class. A warning
    is logged where their ids differ on :data:`PROBES`.

    Raises
    ------
    ValueError
        Naming the folder: it has no tokenizer, or one that cannot be read.
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
            "model was trained on are not known; save the tokenizer again with this version"
        )
    if _ids(named) != expected:
        _warn_of_class(type(named).__name__)
    return tokenizer


@lru_cache
def _warn_of_class(name: str) -> None:
    logger.warning(
        "%s gives other token ids than %s beside the weights; the file's are used, for samples, "
        "tuning and benchmarks",
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


# ---------------------------------------------------------------- texts as tokens


@dataclass(frozen=True)
class Tokens:
    """A text as tokens."""

    text: Text
    token_ids: list[int]
    counted: list[bool]
    """Whether each counts in the loss."""
    overlong: bool
    """Whether there were more than the longest sample has."""


def tokenize(
    texts: Sequence[Text], tokenizer: Any, max_length: int, *, ended: bool
) -> Iterator[Tokens]:
    """Tokens of texts, in their order.

    Without an answer every token but the first counts (the first is predicted from nothing). With
    one, what counts begins at the first token that reaches into the answer's characters, so a token
    that joins the end of the prompt to the answer is the answer's; what the tokenizer appends to a
    text counts too. With `ended` the end-of-text token is appended, where the tokenizer has one and
    does not do so itself.

    Raises
    ------
    ValueError
        For texts with an answer and a tokenizer that does not know where its tokens come from.
    """
    with_answers = any(text.answer_at is not None for text in texts)
    if with_answers and not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not report the characters of a token, so "
            "the answer's tokens cannot be found; save the tokenizer in its fast form "
            "(tokenizer.json)"
        )
    encoded = tokenizer(
        [text.text for text in texts],
        return_offsets_mapping=with_answers,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # about texts that are longer than the model's context
    )
    end = tokenizer.eos_token_id if ended else None
    for index, text in enumerate(texts):
        token_ids = encoded["input_ids"][index]
        first = 1
        if text.answer_at is not None:
            offsets = encoded["offset_mapping"][index]
            reaching = (at for at, (_, stop) in enumerate(offsets) if stop > text.answer_at)
            first = next(reaching, len(token_ids))
        if end is not None and token_ids[-1:] != [end] and not text.clipped:
            token_ids = [*token_ids, end]
        overlong = text.clipped or len(token_ids) > max_length
        token_ids = token_ids[:max_length]
        counted = [at >= first for at in range(len(token_ids))]
        yield Tokens(text, token_ids, counted, overlong)
