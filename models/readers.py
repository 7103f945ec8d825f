"""The records of a source, one after the other: a reader for each kind, none reads it whole."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from models.records import Record, named_fields, what_was_found
from studies.sources import FileSamples, HubSamples, JsonlSamples, ParquetSamples, TextSamples

ROWS_AT_ONCE = 64  # of a Parquet file: a row can be a whole book
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Endings of compressed text files, which are read as what is in them."""


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
        Of a longer text in a text file, no more than so many characters need to come.

    Raises
    ------
    ValueError
        Naming the file: not UTF-8, not Parquet, a column that is not there.
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


# ---------------------------------------------------------------- one reader for each kind


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
                        raise ValueError(what_was_found(dict.fromkeys(names), name))
                batches = file.iter_batches(ROWS_AT_ONCE, columns=list(needed))
                row = 0
                for batch in batches:
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
            f"{path}: cannot be decompressed ({error}); it is cut short, or its name says another "
            "compression than it has"
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
    """Paragraphs with the number of their first line; what goes on for too long is not kept."""
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
