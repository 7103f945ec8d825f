"""What defines a benchmark, as a digest: a changed task file is another benchmark."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.catalog import LOCAL_FORMATS, TaskFile


def definition(task: TaskFile) -> str:
    """Digest of all that a task file says: fields, functions' modules, data files beside it.

    Equal on every machine, unless the file itself names an absolute path. Modules that those
    modules import are not followed.

    Raises
    ------
    ValueError
        When a function's module is nowhere.
    """

    def canonical(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): canonical(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [canonical(item) for item in value]
        if isinstance(value, str) and is_function(value):
            return [Path(value).name, _file_digest(_module_of(value, task.name))]
        return value

    files = _data_files((task.config.get("dataset_kwargs") or {}).get("data_files"))
    local = task.config.get("dataset_path") in LOCAL_FORMATS
    found = sorted({p for f in files for p in _matching(task.data_folder, f)}) if local else []
    return _digest([canonical(task.config), [[p.name, _file_digest(p)] for p in found]])


def is_function(value: str) -> bool:
    """Whether lm-eval's loader wrote this for a `!function` tag: a folder, a module, a name."""
    place = Path(value)
    return (
        place.is_absolute() and "." in place.name and place.parent.is_dir() and not place.exists()
    )


def _module_of(function: str, benchmark: str) -> Path:
    """File of a function's module: beside the task file, else wherever Python finds it."""
    place = Path(function)
    module = place.name.rpartition(".")[0]
    beside = place.parent / (module.replace(".", "/") + ".py")
    if beside.is_file():
        return beside
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise ValueError(
            f"benchmark {benchmark!r}: its task file asks for {place.name}, but there is no module "
            f"{module} in {place.parent} or among Python's own"
        )
    return Path(found.origin)


def _matching(folder: Path, name: str) -> list[Path]:
    return list(folder.glob(name)) if "*" in name else [p for p in [folder / name] if p.is_file()]


def _data_files(files: Any) -> list[str]:
    if isinstance(files, Mapping):
        return [name for inner in files.values() for name in _data_files(inner)]
    if isinstance(files, list):
        return [name for inner in files for name in _data_files(inner)]
    return [files] if isinstance(files, str) and "://" not in files else []


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
