"""One record of a source, and the text that a study makes of its fields.

A record knows its number in the source and what a message calls its place, whatever it was read
from (:mod:`models.readers`).
"""

import difflib
import string
from dataclasses import dataclass
from typing import Any

from studies.sources import FileSamples


class Malformed(ValueError):
    """A record that no text can be made of; the message says where and why."""


@dataclass(frozen=True)
class Record:
    """One record of a source.

    Attributes
    ----------
    number
        Position in the source, from 0: of the line, of the row, in the stream.
    place
        What a message calls it.
    fields
        The fields by name; anything else is malformed.
    problem
        Why the record could not be read at all; empty when it could.
    """

    number: int
    place: str
    fields: Any
    problem: str = ""


@dataclass(frozen=True)
class Text:
    """What is tokenized of a record.

    Attributes
    ----------
    number, place
        As in :class:`Record`.
    text
        Prompt, separator and answer; at most so many characters as were asked for.
    answer_at
        Where in it the answer begins, in characters; None without an answer field.
    blank
        Whether there is nothing but white space where something should count.
    clipped
        Whether the text went on.
    """

    number: int
    place: str
    text: str
    answer_at: int | None
    blank: bool
    clipped: bool


def named_fields(source: FileSamples) -> tuple[str, ...]:
    """Fields that a sample's text is made of, and the one it is chosen by."""
    names = [name for _, name in _parts(source)]
    names += [source.answer_field, source.keep.field if source.keep else None]
    return tuple(dict.fromkeys(name for name in names if name))


def is_kept(record: Record, source: FileSamples) -> bool:
    """Whether the record passes the source's `keep`; raises as :func:`text_of` does."""
    if source.keep is None:
        return True
    found = _field(record, source.keep.field)
    return source.keep.text.casefold() in found.casefold()


def text_of(record: Record, source: FileSamples, max_characters: int) -> Text:
    """What the source's `text_field`, `template` and `answer_field` make of a record.

    Raises
    ------
    Malformed
        Naming the place and the field: not there, not text, or half a character in it.
    """
    prompt = "".join(
        literal + (_field(record, name) if name else "") for literal, name in _parts(source)
    )
    counting, answer_at, text = prompt, None, prompt
    if source.answer_field is not None:
        counting = _field(record, source.answer_field)
        text = f"{prompt}{source.separator}{counting}"
        answer_at = len(text) - len(counting)
    return Text(
        record.number,
        record.place,
        text[:max_characters],
        answer_at,
        blank=not counting.strip(),
        clipped=len(text) > max_characters,
    )


def _parts(source: FileSamples) -> list[tuple[str, str | None]]:
    """Literal texts, each with the field that follows it."""
    if source.template is None:
        return [("", source.text_field)]
    return [(literal, name) for literal, name, _, _ in string.Formatter().parse(source.template)]


def _field(record: Record, name: str) -> str:
    fields, place = record.fields, record.place
    if record.problem:
        raise Malformed(f"{place}: {record.problem}")
    if not isinstance(fields, dict) or not isinstance(fields.get(name), str):
        raise Malformed(f"{place}: {what_was_found(fields, name)}")
    text: str = fields[name]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed(
            f"{place}: the field {name!r} holds half a character (a lone surrogate such as "
            "\\ud83d); write the file again from the original text"
        ) from None
    return text


def what_was_found(fields: Any, name: str) -> str:
    """What a message says where a text field was expected."""
    expected = f"expected a text field {name!r}, found "
    if not isinstance(fields, dict):
        return expected + type(fields).__name__
    if name in fields:
        return f"{expected}{name} with a value of type {type(fields[name]).__name__}"
    near = difflib.get_close_matches(name, fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return expected + (", ".join(fields) or "nothing") + hint
