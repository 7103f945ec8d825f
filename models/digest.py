"""Checkpoints on disk: what is there, and which weights they are. No torch in here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from studies.base import NothingYet, parse_checkpoint_name
from studies.checkpoint_files import COUNTED, TOKENIZER

_CHUNK = 1 << 20


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint folder of a training run.

    Attributes
    ----------
    step
        Optimizer steps taken.
    tokens_seen
        Tokens trained on; None when the folder's name does not say.
    name
        The folder's name.
    path
        The folder.
    """

    step: int
    tokens_seen: int | None
    name: str
    path: Path


def checkpoint_digest(folder: Path) -> str:
    """Identity of a local checkpoint: sha256 over the names and contents of its files.

    Counted are the files of :data:`studies.checkpoint_files.COUNTED`; anything else in the folder
    (optimizer state, README) is not.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        When the folder, its config.json or its weights are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a checkpoint: there is no such folder")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not a checkpoint: config.json is missing")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} is not a checkpoint: it has no *.safetensors weights")
    return _digest(folder, COUNTED)


def tokenizer_digest(folder: Path) -> str:
    """Identity of the tokenizer in a folder: sha256 over the names and contents of its files."""
    return _digest(Path(folder), TOKENIZER)


def stamps(folder: Path) -> dict[str, list[int]]:
    """What tells that a file was touched: size, times of change and number, of each that counts.

    As long as they are the same the digest is the same, so terabytes need not be read again. A file
    can change without a new time only within the clock's own grain, so stamps are worth something
    once the newest of them is a few seconds old.
    """
    found = {}
    for file in _files(Path(folder), COUNTED):
        status = file.stat()
        found[file.name] = [
            status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino,
        ]  # fmt: skip
    return found


def _digest(folder: Path, patterns: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for file in _files(folder, patterns):
        digest.update(f"{file.name}\0{_sha256(file)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    files = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(files, key=lambda file: file.name)


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
        step, tokens_seen = parsed
        if step in found:
            raise ValueError(
                f"{folder} holds two checkpoints of step {step}: {found[step].name} and "
                f"{path.name}; keep one"
            )
        found[step] = LocalCheckpoint(step, tokens_seen, path.name, path)
    if not found:
        raise NothingYet(
            f"{folder} holds no checkpoint; expected subfolders with names like step1000 or "
            "step1000-tokens2B"
        )
    return [found[step] for step in sorted(found)]


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
