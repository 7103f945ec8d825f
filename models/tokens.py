"""Texts as token ids, and which of the tokens count in the loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from models.records import Text


@dataclass(frozen=True)
class Tokens:
    """A text as tokens.

    Attributes
    ----------
    text
        Where they come from.
    token_ids, counted
        The tokens and whether each counts in the loss, at most as many as were asked for.
    overlong
        Whether there were more.
    """

    text: Text
    token_ids: list[int]
    counted: list[bool]
    overlong: bool


def tokenize(
    texts: Sequence[Text], tokenizer: Any, max_length: int, *, ended: bool
) -> Iterator[Tokens]:
    """Tokens of texts, in their order.

    Without an answer every token but the first counts (the first is predicted from nothing). With
    one, what counts begins at the first token that reaches into the answer's characters, so a token
    that joins the end of the prompt to the answer is the answer's; what the tokenizer appends to a
    text counts too.

    Parameters
    ----------
    ended
        Append the end-of-text token, when the tokenizer has one and does not do so itself.

    Raises
    ------
    ValueError
        For texts with an answer and a tokenizer that cannot tell where its tokens come from.
    """
    with_answers = any(text.answer_at is not None for text in texts)
    if with_answers and not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not tell which characters a token stands for, so "
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
