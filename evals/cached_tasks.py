"""A benchmark's task with its data and requests, cached between the checkpoints of a process.

A study scores the same benchmarks on many checkpoints. Data sets, prompts and requests depend on
the task file and the data alone, never on the weights: they are computed once.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from evals.catalog import LOCAL_FORMATS, TaskFile, definition
from evals.checks import check_documents

# Some task files fetch metric code from the hub through the evaluate library when they are read.
os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")

_COMMIT = re.compile(r"^[0-9a-f]{40}$")
MAX_CACHED_TASKS = 32


class CachedTask(ConfigurableTask):
    """lm-eval's task; builds its requests once and knows the commit of its data set."""

    _instances: Any = None
    _documents: Any = None
    commit: str | None = None

    @property
    def eval_docs(self) -> Any:
        """The documents that are scored; lm-eval would choose and rewrite them at every access."""
        if self._documents is None:
            self._documents = super().eval_docs
        return self._documents

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the data set as lm-eval does; an error names the data set."""
        pinned = (dataset_kwargs or {}).get("revision")
        try:
            super().download(dataset_kwargs, **kwargs)
        except Exception as error:
            raise ValueError(self._not_loaded(error, pinned)) from error
        self.commit = _commit_of(self.dataset)
        if pinned not in (None, self.commit) and self.commit and _COMMIT.match(str(pinned)):
            # Without a network, datasets takes whichever version it used last.
            raise ValueError(
                f"benchmark {self.config.task!r}: the study pins data set {self.DATASET_PATH} to "
                f"commit {pinned}, the local cache gave {self.commit}; run with a network once"
            )

    def build_all_requests(self, **settings: Any) -> None:
        """Build the requests the first time; after that only remove the last answers."""
        if self._instances is None:
            super().build_all_requests(**settings)
        for instance in self._instances:
            instance.resps, instance.filtered_resps = [], {}

    def _not_loaded(self, error: Exception, pinned: str | None) -> str:
        name = f"{self.DATASET_PATH}" + (f" ({self.DATASET_NAME})" if self.DATASET_NAME else "")
        at = f" at {pinned}" if pinned else ""
        offline = [v for v in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE") if _is_set(v)]
        hint = ""
        if offline and self.DATASET_PATH not in LOCAL_FORMATS:
            hint = f"; {offline[0]} is set and the data set is not in the local cache: load it once"
            hint += " with a network, or unset it"
        elif "scripts are no longer supported" in str(error):
            hint = "; code that comes with a data set never runs here"
        return (
            f"benchmark {self.config.task!r}: data set {name}{at} cannot be loaded: {error}{hint}"
        )


def load_task(
    task: TaskFile,
    *,
    num_fewshot: int | None,
    limit: int | None,
    seed: int,
    commit: str | None,
    max_generated: int | None = None,
) -> Any:
    """The task with its data, cached for the next call with the same arguments.

    Parameters
    ----------
    task
        Its file.
    num_fewshot
        Replaces the file's own number; None leaves it.
    limit, seed
        Decide the requests.
    commit
        Of the data set on the hub; None takes its main branch.
    max_generated
        Most tokens of a generated text, where the file allows more; None leaves the file's.

    Raises
    ------
    ValueError
        When data are missing or empty, the data set cannot be loaded, lm-eval cannot build the
        task, or a document would be scored wrongly (:func:`evals.checks.check_documents`).
    """
    return _load(_Key(task, definition(task), num_fewshot, limit, seed, commit, max_generated))


@dataclass(frozen=True)
class _Key:
    """What a cached task depends on; its file counts by its content."""

    task: TaskFile = field(compare=False)
    definition: str
    num_fewshot: int | None
    limit: int | None
    seed: int
    commit: str | None
    max_generated: int | None


@lru_cache(maxsize=MAX_CACHED_TASKS)
def _load(key: _Key) -> Any:
    name, folder = key.task.name, key.task.data_folder
    config = load_yaml(key.task.path)
    with tempfile.TemporaryDirectory(prefix="grokpath-benchmarks-") as private:
        config["dataset_kwargs"] = _data_arguments(name, config, folder, Path(private), key.commit)
        if key.max_generated is not None and "generation_kwargs" in config:
            config["generation_kwargs"] = _shortened(config["generation_kwargs"], key.max_generated)
        try:
            task = _build(name, config)
        except (LookupError, TypeError, AttributeError) as error:  # it looks at one document only
            raise ValueError(
                f"benchmark {name!r}: lm-eval cannot build it ({type(error).__name__}: {error}); "
                "look at its first document and its task file"
            ) from error
    if key.num_fewshot is not None or task.get_config("num_fewshot") is None:
        task.set_config("num_fewshot", key.num_fewshot or 0)
    task.set_fewshot_seed(key.seed)
    check_documents(name, task, key.limit)
    return task


def _build(name: str, config: dict[str, Any]) -> Any:
    if "class" in config:  # a Python task has its own class
        return TaskManager(include_defaults=False).load([config])["tasks"][name]
    for key in ("tag", "group", "task_list"):  # about its place among other tasks
        config.pop(key, None)
    return CachedTask(config=config)


def _shortened(arguments: Mapping[str, Any], max_generated: int) -> dict[str, Any]:
    own = int(arguments.get("max_gen_toks", max_generated))
    return {**arguments, "max_gen_toks": min(own, max_generated)}


def _data_arguments(
    name: str, config: Mapping[str, Any], data_folder: Path, private: Path, commit: str | None
) -> dict[str, Any]:
    """Arguments for datasets: local files by absolute path, hub data sets by commit."""
    given = dict(config.get("dataset_kwargs") or {})
    given.pop("trust_remote_code", None)
    if config.get("dataset_path") not in LOCAL_FORMATS:
        # A revision in the task file itself has priority.
        return given if commit is None or "revision" in given else {**given, "revision": commit}
    files = _absolute(given.get("data_files"), data_folder, name)
    # Read into memory from a cache of our own: nothing is shared or left on disk.
    return {**given, "data_files": files, "cache_dir": str(private), "keep_in_memory": True}


def _absolute(files: Any, folder: Path, name: str) -> Any:
    if isinstance(files, Mapping):
        return {split: _absolute(inner, folder, name) for split, inner in files.items()}
    if isinstance(files, list):
        return [_absolute(inner, folder, name) for inner in files]
    if not isinstance(files, str) or "://" in files:
        return files
    path = folder / files
    if "*" not in files and not path.is_file():
        raise ValueError(f"benchmark {name!r}: its data file {path} does not exist")
    if "*" not in files and not path.stat().st_size:
        raise ValueError(f"benchmark {name!r}: its data file {path} is empty")
    return str(path)


def _commit_of(dataset: Any) -> str | None:
    """Commit of a data set from the hub: the folder of its cache is named after it."""
    for split in dataset.values() if isinstance(dataset, Mapping) else []:
        for file in getattr(split, "cache_files", []):
            if _COMMIT.match(Path(file["filename"]).parent.name):
                return Path(file["filename"]).parent.name
    return None


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}
