"""When is a step new? This module decides.

A step's fingerprint is the SHA-256 of canonical JSON over its name, its explicit version, its own
part of the study and the digests of its inputs. Nothing else enters: no time, no machine, no path,
no branch name. Two consequences:

* A changed setting changes the fingerprints of exactly the steps that were handed it.
* An input that is rebuilt with the same content leaves its readers untouched, because they know it
  by the digest of its content, not by how it was computed.

A value that has no stable identity raises :class:`IdentityError`. Guessing (pickle, `repr`, memory
addresses) would give a key that differs between processes, and with it silent recomputation or,
worse, a wrong hit.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from studies.settings import Runtime

FINGERPRINT_LENGTH = 20
CHUNK_BYTES = 1 << 20


class Label(str):
    """Text that only names a run for its reader; two runs with other labels are the same."""


class IdentityError(TypeError):
    """A value that cannot be part of an identity."""


@runtime_checkable
class Identified(Protocol):
    """Something that knows what it is: an artifact, a checkpoint."""

    def identity(self) -> dict[str, Any]:
        """JSON that two equal things share and two different things do not."""
        ...


def fingerprint(step_name: str, version: int, inputs: dict[str, Any]) -> str:
    """Identity of one step on its inputs.

    Parameters
    ----------
    step_name, version
        Which computation; the version is raised by hand when its meaning changes.
    inputs
        What the step was given. :class:`~studies.spec.Runtime` and :class:`Label` are left out.

    Returns
    -------
    str
        20 hexadecimal digits.

    Raises
    ------
    IdentityError
        When an input has no stable identity.
    """
    text = canonical_json({"step": step_name, "version": version, "inputs": identities(inputs)})
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def identities(inputs: dict[str, Any]) -> dict[str, Any]:
    """Canonical form of every input that counts."""
    return {
        name: canonical(value, at=name)
        for name, value in inputs.items()
        if not isinstance(value, (Runtime, Label))
    }


def canonical(value: Any, *, at: str = "value") -> Any:
    """JSON form of a value that is the same in every process, or :class:`IdentityError`."""
    if isinstance(value, Identified):
        return value.identity()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise IdentityError(f"{at} is {value}; a step can only be keyed on finite numbers")
        return value
    if isinstance(value, Path):
        return {"sha256": path_digest(value, at=at)}
    if isinstance(value, BaseModel):
        return {
            name: canonical(getattr(value, name), at=f"{at}.{name}")
            for name in type(value).model_fields
        }
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise IdentityError(f"{at} has keys that are not strings; canonical JSON needs strings")
        return {key: canonical(item, at=f"{at}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item, at=f"{at}[{i}]") for i, item in enumerate(value)]
    raise IdentityError(
        f"{at} is a {type(value).__name__}, which has no identity that is stable across processes; "
        "pass a part of the study, an artifact, a checkpoint or plain JSON"
    )


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def path_digest(path: Path, *, at: str = "value") -> str:
    """SHA-256 of a file's content, or of all files below a folder with their names."""
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        return files_digest({f.relative_to(path).as_posix(): file_digest(f) for f in files})
    raise IdentityError(f"{at}: {path} is not there, so it has no content to be known by")


def files_digest(files: dict[str, str]) -> str:
    """One digest for a set of files, given the SHA-256 of each by relative name."""
    return hashlib.sha256(canonical_json(files).encode()).hexdigest()
