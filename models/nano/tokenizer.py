"""The nano model's tokenizer: one token per word, nothing added."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from models.nano.corpus import SPECIAL_TOKENS


def build_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """Word-level tokenizer over a corpus vocabulary.

    Text is split at white space; a word outside the vocabulary becomes `<unk>`. No token is added
    in front or behind, so a prompt of four words is four tokens.

    Raises
    ------
    ValueError
        When the vocabulary does not begin with the special tokens, or names a word twice.

    Examples
    --------
    >>> build_tokenizer(["<pad>", "<eos>", "<unk>", "1", "+"]).encode("1 + 2")
    [3, 4, 2]
    """
    if tuple(vocabulary[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise ValueError(
            f"the vocabulary begins with {list(vocabulary[: len(SPECIAL_TOKENS)])}, expected "
            f"{list(SPECIAL_TOKENS)}"
        )
    if len(set(vocabulary)) != len(vocabulary):
        doubled = sorted({word for word in vocabulary if list(vocabulary).count(word) > 1})
        raise ValueError(f"the vocabulary names {', '.join(doubled)} more than once")
    pad, eos, unk = SPECIAL_TOKENS
    words = Tokenizer(
        WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token=unk)
    )
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=pad, eos_token=eos, unk_token=unk
    )
