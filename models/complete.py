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
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from models.digest import COUNTED

INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"^model-\d{5}-of-(?P<count>\d{5})\.safetensors$")
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
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


def _missing(folder: Path, marker: str | None) -> Iterator[str]:
    names = {path.name for path in folder.iterdir()}
    for name in sorted(names):
        if TEMPORARY.search(name):
            yield f"{name} is a temporary file"
    if marker is not None and marker not in names:
        yield f"the marker {marker} is not there yet"
    if "config.json" not in names:
        yield "config.json is not there yet"
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    if not weights:
        yield "no *.safetensors weights are there yet"
    yield from _missing_shards(folder, names)
    for name in weights:
        yield from _missing_bytes(folder / name)
    if not names & set(VOCABULARIES):
        yield f"no tokenizer is there yet (one of {', '.join(VOCABULARIES)})"
    for name in sorted(names):
        counts = any(fnmatch(name, pattern) for pattern in COUNTED)
        if counts and name.endswith(".json") and _json(folder / name) is None:
            yield f"{name} is cut short or no JSON"


def _missing_shards(folder: Path, names: set[str]) -> Iterator[str]:
    shards = [match for name in names if (match := SHARD.match(name))]
    if INDEX not in names:
        if shards and "model.safetensors" not in names:
            yield f"{INDEX} is not there yet"
        return
    index = _json(folder / INDEX)
    shard_of = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shard_of, dict):
        yield f"{INDEX} is cut short or has no weight_map"
        return
    lacking = sorted(set(map(str, shard_of.values())) - names)
    if lacking:
        yield f"{len(lacking)} of its files of weights are not there yet, {lacking[0]} first"


def _missing_bytes(file: Path) -> Iterator[str]:
    size = file.stat().st_size
    expected = safetensors_size(file)
    if expected is None:
        yield f"{file.name} has no whole header yet ({size:,} bytes)"
    elif size != expected:
        yield f"{file.name} has {size:,} of {expected:,} bytes"


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
