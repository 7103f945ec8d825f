"""Which task file a benchmark's name means and what it says, without any of its data.

A name is looked for in the folders of the study, in the files that ship with grokpath
(`evals/tasks`), then among lm-eval's own. Reading all of lm-eval's thousands of task files takes
eight seconds; their names are found by text in half a second, and only the wanted file is read, by
lm-eval's own loader.
"""

import difflib
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
    """The task file of one benchmark.

    Attributes
    ----------
    name, path
        Name of the lm-eval task, and its YAML file.
    data_folder
        Where relative data files start.
    config
        What the file says, what it includes among it; functions are named by text, as
        `<folder>/<module>.<function>`.
    """

    name: str
    path: Path
    data_folder: Path
    config: Mapping[str, Any]


def find_task(benchmark: Benchmark, folders: Sequence[Path]) -> TaskFile:
    """The task file that a benchmark means; `folders` come first, in their order.

    Raises
    ------
    ValueError
        For a name that is nowhere, with near ones, a folder that is not there, or a file that
        cannot be read or holds another task.
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
