"""Whether a checkpoint is all there, or somebody is still writing it. No torch in here.

A training run writes into the folder that a study looks at. What its files say of themselves is
checked: a safetensors file begins with the length of its data, an index names its shards. What
cannot be seen is a file that is full length before its content is (some copying programs do that),
and a file that is yet to come and that nothing names. A training run that writes so should write a
marker file last and the study name it (`complete_marker`).
"""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studies.checkpoint_files import CONFIG, INDEX, SHARD, SINGLE, VOCABULARIES, belongs, refusal

TEMPORARY = re.compile(
    r"^\.tmp|^te?mp[-_.]|\.(tmp|temp|part|partial|incomplete|filepart|writing)$"
    r"|^\.(?!_).*\.(safetensors|json)",  # as rsync calls what it is about to rename
    re.IGNORECASE,
)
MAX_HEADER = 100_000_000  # bytes, as the safetensors library has it


def why_incomplete(folder: Path, marker: str | None = None) -> str | None:
    """What is missing in a checkpoint's folder; None when it is complete as far as can be seen.

    Reads a few kilobytes per file, whatever the size of the weights. A folder from which files
    vanish meanwhile is not complete either.

    Parameters
    ----------
    folder
        A checkpoint in Hugging Face format.
    marker
        A file that is written last and so must be there.
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
        what = "is cut short" if size < expected else "is longer than its header says"
        yield f"{file.name} {what} ({size:,} of {expected:,} bytes)"


def safetensors_size(file: Path) -> int | None:
    """Bytes that a safetensors file should have by its own header; None when that is not whole."""
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
