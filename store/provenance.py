"""With what an artifact was computed: package versions, git commit, Python, machine."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "grokpath",
    "prefect",
    "torch",
    "transformers",
    "lm_eval",
    "mlflow",
    "duckdb",
    "numpy",
    "scipy",
    "rapidfuzz",
    "pyarrow",
    "tokenizers",
    "safetensors",
    "altair",
)


@cache
def provenance() -> dict[str, Any]:
    """Versions and commit of this process; computed once."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the checkout this code runs from; `-dirty` when files differ from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
