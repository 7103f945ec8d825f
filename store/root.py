"""The data root: `GROKPATH_ROOT`, or `grokpath-data` in the working directory."""

import os
from pathlib import Path

PATTERN_CHARACTERS = "?*[]"


def root() -> Path:
    """Folder that holds everything a study produces."""
    folder = Path(os.environ.get("GROKPATH_ROOT", "grokpath-data")).expanduser()
    return Path(os.path.abspath(folder))  # noqa: PTH100 (without `..`, links as they are)


def artifacts_root() -> Path:
    """Folder of the artifacts; also the root of Prefect's result store."""
    return root() / "artifacts"


def check_root() -> None:
    """Refuse a root that cannot hold data, before any work is done.

    Raises
    ------
    ValueError
        Naming the folder and what is wrong with it.
    """
    folder = root()
    if found := [character for character in PATTERN_CHARACTERS if character in str(folder)]:
        raise ValueError(
            f"{folder} cannot be the data folder: databases and file patterns take "
            f"{' '.join(found)} in its path for something else; choose another folder with --root "
            "or GROKPATH_ROOT"
        )
    try:
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        artifacts_root().mkdir(exist_ok=True)
        trial = folder / "locks" / f".trial-{os.getpid()}"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise ValueError(
            f"{folder} cannot hold data ({error.strerror}: {error.filename}); choose another "
            "folder with --root or GROKPATH_ROOT"
        ) from error
