"""Records of a source, one after the other, and the text that a study makes of their fields.

There is a reader for each kind of source, and none holds all of it. A record knows its number in
the source and what a message calls its place, whatever it was read from.
"""

import difflib
import io
import json
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from studies.sources import FileSamples, HubSamples, JsonlSamples, ParquetSamples, TextSamples

ROWS_AT_ONCE = 64  # of a Parquet file: a row can be a complete book
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Endings of compressed text files, which are decompressed as they are read."""


class Malformed(ValueError):
    """A record without the expected text; the message names the place and the reason."""


@dataclass(frozen=True)
class Record:
    """One record of a source."""

    number: int
    """Position in the source, from 0: of the line, of the row, in the stream."""
    place: str
    """What a message calls it."""
    fields: Any
    """The fields by name; anything else is malformed."""
    problem: str = ""
    """Why the record could not be read at all; empty when it could."""


@dataclass(frozen=True)
class Text:
    """The text of a record, to be tokenized."""

    number: int
    place: str
    text: str
    """Prompt, separator and answer, up to the most characters that were requested."""
    answer_at: int | None
    """Where in it the answer begins, in characters; None without an answer field."""
    blank: bool
    """Whether there is nothing but white space where something should count."""
    clipped: bool
    """Whether the text went on."""


def named_fields(source: FileSamples) -> tuple[str, ...]:
    """Fields of a sample's text, and the one by which samples are filtered."""
    names = [name for _, name in _parts(source)]
    names += [source.answer_field, source.keep.field if source.keep else None]
    return tuple(dict.fromkeys(name for name in names if name))


def passes_filter(record: Record, source: FileSamples) -> bool:
    """Whether the record passes the source's `keep`; raises as :func:`text_of` does."""
    if source.keep is None:
        return True
    found = _field(record, source.keep.field)
    return source.keep.text.casefold() in found.casefold()


def text_of(record: Record, source: FileSamples, max_characters: int) -> Text:
    """The text of a record, by the source's `text_field`, `template` and `answer_field`.

    Raises
    ------
    Malformed
        Naming the place and the field: missing, not text, or half a character in it.
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
        raise Malformed(f"{place}: {_unexpected(fields, name)}")
    text: str = fields[name]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed(
            f"{place}: the field {name!r} holds half a character (a lone surrogate such as "
            "\\ud83d); write the file again from the original text"
        ) from None
    return text


def _unexpected(fields: Any, name: str) -> str:
    expected = f"expected a text field {name!r}, found "
    if not isinstance(fields, dict):
        return expected + type(fields).__name__
    if name in fields:
        return f"{expected}{name} with a value of type {type(fields[name]).__name__}"
    near = difflib.get_close_matches(name, fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return expected + (", ".join(fields) or "nothing") + hint


# ---------------------------------------------------------------- one reader for each kind


def read_records(
    source: FileSamples, commits: Mapping[str, str], max_characters: int
) -> Iterator[Record]:
    """The records of a file, a folder or a data set on the hub, in order.

    Parameters
    ----------
    source
        Where they are.
    commits
        Commit of every data set on the hub, by `repository@revision`.
    max_characters
        Characters of a text file's text after which the reader may stop.

    Raises
    ------
    ValueError
        Naming the file: not UTF-8, not Parquet, a column that is missing.
    """
    if isinstance(source, HubSamples):
        return _hub_records(source, commits)
    if isinstance(source, ParquetSamples):
        return _parquet_records(source)
    if isinstance(source, TextSamples):
        return _text_records(source, max_characters)
    return _jsonl_records(source)


def origin(source: FileSamples) -> tuple[str, str]:
    """What a message calls the source, and what is expected in it."""
    if isinstance(source, HubSamples):
        return source.repository, f"a data set with a split {source.split!r}"
    expected = {
        "jsonl": "one JSON object per line",
        "parquet": "at least one row",
        "text": "some text",
    }
    return str(source.path), expected[source.kind]


def _jsonl_records(source: JsonlSamples) -> Iterator[Record]:
    for number, line in enumerate(_lines(source.path)):
        if line.strip():
            place = f"{source.path}, line {number + 1}"
            try:
                yield Record(number, place, json.loads(line))
            except (ValueError, RecursionError) as error:
                yield Record(number, place, None, problem=f"not JSON ({error})")


def _parquet_records(source: ParquetSamples) -> Iterator[Record]:
    needed, number = named_fields(source), 0
    for path in _files(source.path, "*.parquet"):
        try:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
                names = file.schema_arrow.names
                for name in needed:
                    if name not in names:
                        raise ValueError(_unexpected(dict.fromkeys(names), name))
                row = 0
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(needed)):
                    for fields in batch.to_pylist():
                        yield Record(number, f"{path}, row {row + 1}", fields)
                        number, row = number + 1, row + 1
        except (ValueError, OSError) as error:  # pyarrow's own errors are among them
            raise ValueError(f"{path}: {error}") from error


def _text_records(source: TextSamples, max_characters: int) -> Iterator[Record]:
    number = 0
    for path in _files(source.path, "*.txt"):
        for line, text in _PIECES[source.per](path, max_characters + 1):
            place = str(path) if source.per == "file" else f"{path}, line {line + 1}"
            yield Record(number, place, {"text": text})
            number += 1


def _hub_records(source: HubSamples, commits: Mapping[str, str]) -> Iterator[Record]:
    from hub.streams import stream_rows

    rows = stream_rows(source, commits[f"{source.repository}@{source.revision}"])
    for number, fields in enumerate(islice(rows, source.max_read)):
        yield Record(number, f"{source.repository}, sample {number + 1} of the stream", fields)


# ---------------------------------------------------------------- files


def _files(path: Path, pattern: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob(pattern) if file.is_file())
    if not found:
        raise ValueError(f"{path}: expected {pattern} files in this folder, found none")
    return found


def _lines(path: Path) -> Iterator[str]:
    """Lines of a file, compressed or not; its first character may be a byte order mark."""
    try:
        with _opened(path) as file:
            yield from file
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error.reason}); save the file as UTF-8 and run again"
        ) from error
    except OSError as error:
        if path.suffix not in COMPRESSED or error.errno is not None:
            raise
        raise ValueError(
            f"{path}: cannot be decompressed ({error}); it is cut short, or its name has another "
            "compression's ending"
        ) from error


def _opened(path: Path) -> TextIO:
    encoding = "utf-8-sig"  # some editors begin with a mark
    if path.suffix not in COMPRESSED:
        return path.open(encoding=encoding)
    stream = pa.input_stream(str(path), compression=COMPRESSED[path.suffix])
    return io.TextIOWrapper(io.BufferedReader(stream, 1 << 20), encoding=encoding)


Pieces = Iterator[tuple[int, str]]


def _pieces_by_line(path: Path, max_characters: int) -> Pieces:
    for number, line in enumerate(_lines(path)):
        if line.strip():
            yield number, line.rstrip("\n")


def _pieces_by_paragraph(path: Path, max_characters: int) -> Pieces:
    """Paragraphs, cut when they are long, with the number of their first line."""
    start, paragraph = 0, ""
    for number, line in enumerate(_lines(path)):
        if line.strip():
            start = start if paragraph else number
            paragraph += line if len(paragraph) < max_characters else ""
        elif paragraph:
            yield start, paragraph.rstrip("\n")
            paragraph = ""
    if paragraph:
        yield start, paragraph.rstrip("\n")


def _pieces_by_file(path: Path, max_characters: int) -> Pieces:
    text = ""
    for line in _lines(path):
        text += line
        if len(text) >= max_characters:
            break
    yield 0, text


_PIECES: dict[str, Callable[[Path, int], Pieces]] = {
    "line": _pieces_by_line,
    "paragraph": _pieces_by_paragraph,
    "file": _pieces_by_file,
}
