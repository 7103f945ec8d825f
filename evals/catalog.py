"""Which task file a benchmark's name means, and a digest of what defines the benchmark.

A name is looked up in the folders of the study, in the files that ship with grokpath
(`evals/tasks`), then among lm-eval's own. Reading all of lm-eval's thousands of task files takes
eight seconds; their names are found by text in half a second, and only the wanted file is read, by
lm-eval's own loader.
"""

import difflib
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.tasks._yaml_loader import load_yaml

from studies.settings import EvaluationSpec
from studies.spec import Benchmark

SHIPPED = Path(__file__).parent / "tasks"
LM_EVAL = Path(lm_eval.tasks.__file__).parent
LOCAL_FORMATS = frozenset({"json", "csv", "parquet", "text", "arrow"})
_TASK_LINE = re.compile(rb"""^["']?task["']? *: *["']?([^\s"'#\[{][^"'#\r\n]*)""", re.MULTILINE)


@dataclass(frozen=True)
class TaskFile:
    """The task file of one benchmark."""

    name: str
    """Name of the lm-eval task."""
    path: Path
    data_folder: Path
    """Where relative data files start."""
    config: Mapping[str, Any]
    """The file with what it includes; functions as text, `<folder>/<module>.<function>`."""


def find_task(benchmark: Benchmark, folders: Sequence[Path]) -> TaskFile:
    """The task file that a benchmark means; `folders` come first, in their order.

    Raises
    ------
    ValueError
        For an unknown name, with near ones, a missing folder, or a file that cannot be read or
        holds another task.
    """
    if benchmark.file is not None:
        return _task_in(benchmark.file, benchmark.name, benchmark.file.parent)
    for folder in (*folders, SHIPPED):
        if not folder.is_dir():
            raise ValueError(f"no folder with benchmarks at {folder}")
        path = _names_in(folder).get(benchmark.name)
        if path is not None:
            return _task_in(path, benchmark.name, folder)
    path = _names_of_lm_eval().get(benchmark.name)
    if path is not None:
        return _task_in(path, benchmark.name, path.parent)
    raise ValueError(_unknown(benchmark.name, folders))


def tasks_folders(settings: EvaluationSpec) -> list[Path]:
    """The study's own folder with task files, if it has one."""
    return [] if settings.tasks_folder is None else [settings.tasks_folder]


def _names_in(folder: Path) -> dict[str, Path]:
    """Task files below a folder by name; of two with one name the first path counts."""
    names: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for name in _TASK_LINE.findall(path.read_bytes()):
            names.setdefault(name.decode(errors="replace").strip(), path)
    return names


@lru_cache(maxsize=1)
def _names_of_lm_eval() -> dict[str, Path]:
    return _names_in(LM_EVAL)


def _task_in(path: Path, name: str, data_folder: Path) -> TaskFile:
    try:
        config = load_yaml(path, resolve_func=False)
    except Exception as error:  # the YAML library's errors have no common base that fits
        raise ValueError(f"benchmark {name!r}: {path} cannot be read: {error}") from error
    found = config.get("task")
    if found != name:
        what = f"task {found!r}" if isinstance(found, str) else "a group or no task at all"
        raise ValueError(f"benchmark {name!r}: {path} holds {what}; expected `task: {name}`")
    return TaskFile(name, path, data_folder.resolve(), config)


def _unknown(name: str, folders: Sequence[Path]) -> str:
    known = set(_names_of_lm_eval()).union(*map(_names_in, [*folders, SHIPPED]))
    if members := sorted(other for other in known if other.startswith(f"{name}_"))[:3]:
        return (
            f"unknown benchmark {name!r}: no single lm-eval task has that name. A group cannot be "
            f"a benchmark; name the tasks themselves, such as {', '.join(members)}"
        )
    near = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`lm_eval ls tasks` lists them"
    return f"unknown benchmark {name!r}: no lm-eval task of that name; {hint}"


# ---------------------------------------------------------------- what defines a benchmark


def definition(task: TaskFile) -> str:
    """Digest of all that a task file contains: fields, functions' modules, data files beside it.

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
            f"benchmark {benchmark!r}: its task file names {place.name}, but there is no module "
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
