"""Checkpoints in folders: which there are, which are complete, what identifies them. No torch.

A training run writes into the folder that a study reads. What its files declare is checked: a
safetensors file begins with the length of its data, an index names its shards. Two things cannot
be detected: a file that has its full length before its content (some copying programs do that), and
a missing file that nothing names. A training run that writes so should write a marker file last and
the study name it (`complete_marker`).
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.base import NothingYet, parse_checkpoint_name
from studies.checkpoint_files import (
    CONFIG,
    COUNTED,
    INDEX,
    SHARD,
    SINGLE,
    TOKENIZER,
    VOCABULARIES,
    belongs,
    refusal,
)

TEMPORARY = re.compile(
    r"^\.tmp|^te?mp[-_.]|\.(tmp|temp|part|partial|incomplete|filepart|writing)$"
    r"|^\.(?!_).*\.(safetensors|json)",  # as rsync calls what it is about to rename
    re.IGNORECASE,
)
MAX_HEADER = 100_000_000  # bytes, as the safetensors library has it


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint folder of a training run; `tokens_seen` is None where its name has none."""

    step: int
    tokens_seen: int | None
    name: str
    path: Path


def list_checkpoints(folder: Path) -> list[LocalCheckpoint]:
    """Checkpoints in a folder, by rising step.

    A checkpoint is a subfolder named `step<N>`, `step<N>-tokens<M>[K|M|B|T]` or `checkpoint-<N>`;
    others are ignored, so logs and half-written copies may lie beside them.

    Raises
    ------
    NothingYet
        When there is no checkpoint in it.
    ValueError
        When there is no such folder, or two checkpoints of one step.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder of checkpoints")
    found: dict[int, LocalCheckpoint] = {}
    for path in sorted(folder.iterdir()):
        parsed = parse_checkpoint_name(path.name) if path.is_dir() else None
        if parsed is None:
            continue
        step, tokens = parsed
        if step in found:
            raise ValueError(
                f"{folder} holds two checkpoints of step {step}: {found[step].name} and "
                f"{path.name}; remove one"
            )
        found[step] = LocalCheckpoint(step, tokens, path.name, path)
    if not found:
        raise NothingYet(
            f"{folder} holds no checkpoint; expected subfolders with names like step1000 or "
            "step1000-tokens2B"
        )
    return [found[step] for step in sorted(found)]


# ---------------------------------------------------------------- which are complete


def why_incomplete(folder: Path, marker: str | None = None) -> str | None:
    """What is missing in a checkpoint's folder; None when it is complete as far as can be detected.

    Reads a few kilobytes per file, whatever the size of the weights. A folder from which files
    vanish meanwhile is not complete either. `marker` is a file that must exist, written last.
    """
    try:
        return next(_missing(Path(folder), marker), None)
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"


def refuse_unreadable(folder: Path, marker: str | None = None) -> None:
    """Refuse a checkpoint that is complete in its way and will never be read.

    Raises
    ------
    ValueError
        Naming the folder, what is in it and what to do.
    """
    names = {path.name for path in folder.iterdir()}
    why = refusal(names, _indexed(folder, names)) if marker is None or marker in names else None
    if why:
        raise ValueError(f"{folder} {why}")


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint that hold its weights, in order of name.

    Raises
    ------
    ValueError
        When there are none, or they are not to be read (:func:`refuse_unreadable`).
    """
    folder = Path(folder)
    refuse_unreadable(folder)
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    names = _indexed(folder, {path.name for path in folder.iterdir()})
    if not names:
        raise ValueError(f"{folder} has no weights: expected {SINGLE}, or {INDEX} with its files")
    return [folder / name for name in sorted(names)]


def _indexed(folder: Path, names: set[str]) -> set[str] | None:
    """The files that an index names; None where there is none that can be read."""
    index = _json(folder / INDEX) if INDEX in names else None
    shard_of = index.get("weight_map") if isinstance(index, dict) else None
    return set(map(str, shard_of.values())) if isinstance(shard_of, dict) else None


def _missing(folder: Path, marker: str | None) -> Iterator[str]:
    names = {path.name for path in folder.iterdir()}
    for name in sorted(names):
        if TEMPORARY.search(name):
            yield f"{name} is a temporary file"
    if marker is not None and marker not in names:
        yield f"the marker {marker} is not there yet"
    if CONFIG not in names:
        yield f"{CONFIG} is not there yet"
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    if not weights:
        yield "no *.safetensors weights are there yet"
    yield from _missing_shards(folder, names)
    for name in weights:
        yield from _missing_bytes(folder / name)
    if not names & set(VOCABULARIES):
        yield f"no tokenizer is there yet (one of {', '.join(VOCABULARIES)})"
    for name in sorted(names):
        if belongs(name) and name.endswith(".json") and _json(folder / name) is None:
            yield f"{name} is cut short or no JSON"


def _missing_shards(folder: Path, names: set[str]) -> Iterator[str]:
    shards = [match for name in names if (match := SHARD.match(name))]
    if INDEX not in names:
        if shards and SINGLE not in names:
            yield f"{INDEX} is not there yet"
        elif SINGLE not in names:
            yield f"neither {SINGLE} nor {INDEX} is there yet"
        return
    indexed = _indexed(folder, names)
    if indexed is None:
        yield f"{INDEX} is cut short or has no weight_map"
        return
    lacking = sorted(indexed - names)
    if lacking:
        yield f"{len(lacking)} of its files of weights are not there yet, {lacking[0]} first"


def _missing_bytes(file: Path) -> Iterator[str]:
    size = file.stat().st_size
    expected = safetensors_size(file)
    if expected is None:
        yield f"{file.name} has no complete header ({size:,} bytes)"
    elif size != expected:
        what = "is cut short" if size < expected else "is longer than in its header"
        yield f"{file.name} {what} ({size:,} of {expected:,} bytes)"


def safetensors_size(file: Path) -> int | None:
    """Bytes of a safetensors file by its own header; None when the header is not complete."""
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            return None
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER:
            return None
        header = stream.read(length)
    try:
        tensors: dict[str, Any] = json.loads(header)
        ends = [
            int(tensor["data_offsets"][1])
            for name, tensor in tensors.items()
            if name != "__metadata__"
        ]
    except (ValueError, TypeError, AttributeError, LookupError):
        return None
    return 8 + length + max(ends, default=0)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


# ---------------------------------------------------------------- what identifies one


def checkpoint_digest(folder: Path) -> str:
    """Identity of a checkpoint: sha256 in hexadecimal over names and contents of its files.

    Counted are the files of :data:`studies.checkpoint_files.COUNTED`; anything else in the folder
    (optimizer state, README) is not.

    Raises
    ------
    ValueError
        When the folder, its config.json or its weights are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a checkpoint: there is no such folder")
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} is not a checkpoint: {CONFIG} is missing")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} is not a checkpoint: it has no *.safetensors weights")
    return _digest(folder, COUNTED)


def tokenizer_digest(folder: Path) -> str:
    """Identity of the tokenizer in a folder: sha256 over the names and contents of its files."""
    return _digest(Path(folder), TOKENIZER)


def stamps(folder: Path) -> dict[str, list[int]]:
    """Size, times of change and inode of each file that counts: they show that it was touched.

    While they are equal the digest is too, so terabytes need not be read again. A file can change
    without a new time only within the clock's own grain, so stamps are reliable once the newest of
    them is a few seconds old.
    """
    status = {file.name: file.stat() for file in _files(Path(folder), COUNTED)}
    return {
        name: [one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino]
        for name, one in status.items()
    }


def _digest(folder: Path, patterns: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for file in _files(folder, patterns):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.name}\0{content}\n".encode())
    return digest.hexdigest()


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    files = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(files, key=lambda file: file.name)
