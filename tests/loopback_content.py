"""What the loopback hub holds and notes down: files, repositories, requests, faults."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

LFS_NAMES = ("*.safetensors", "*.parquet", "*.bin", "*.pt", "*.arrow")
LFS_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Blob:
    """Content of one file, in memory or on disk, with the two names the hub gives it."""

    source: bytes | Path
    size: int
    sha256: str
    git_sha1: str
    lfs: bool

    @classmethod
    def of(cls, name: str, source: bytes | Path) -> "Blob":
        content = source if isinstance(source, bytes) else source.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        lfs = len(content) >= LFS_BYTES or any(fnmatch(name, pattern) for pattern in LFS_NAMES)
        pointer = f"oid sha256:{sha256}\nsize {len(content)}\n"
        kept = f"version https://git-lfs.github.com/spec/v1\n{pointer}".encode() if lfs else content
        git_sha1 = hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()
        return cls(source, len(content), sha256, git_sha1, lfs)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_sha1

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        if isinstance(self.source, bytes):
            yield from (
                self.source[at : min(at + CHUNK_BYTES, stop)]
                for at in range(start, stop, CHUNK_BYTES)
            )
            return
        with self.source.open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK_BYTES, stop - start))):
                start += len(chunk)
                yield chunk


Files = dict[str, Blob]


@dataclass
class Repository:
    """One repository: what its branches point at, and the files of every commit it ever had."""

    kind: str
    name: str
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Files] = field(default_factory=dict)
    gated_for: str | None = None
    """Token that opens the repository's files; None when they are open."""

    @property
    def address(self) -> str:
        return self.name if self.kind == "model" else f"datasets/{self.name}"


@dataclass
class Request:
    """One request that was made; `sent` counts the bytes of the answer's body."""

    method: str
    path: str
    query: str
    range: str | None
    with_token: bool
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """What goes wrong with the requests whose path matches; `LoopbackHub.fault` explains it."""

    match: str
    times: int | None
    status: int | None = None
    retry_after: str | None = None
    hang: float | None = None
    cut_after: int | None = None
    flip: bool = False
    shorter_by: int = 0
    whole: bool = False
    bytes_per_second: float | None = None

    @property
    def in_body(self) -> bool:
        """Whether it shows only while the bytes of a file are sent."""
        return self.status is None and self.hang is None
