"""Score one checkpoint on benchmarks with lm-eval. The only module that imports lm_eval.

lm-eval does the scoring; this module saves what it would do again for every checkpoint. A study
scores the same benchmarks on many checkpoints in one process, so loaded tasks (data, prompts,
metrics) and the token ids of their texts are kept between calls: they depend on the task files
and the tokenizer, never on the weights. `lm_eval.evaluate` is called, not `simple_evaluate`, which
starts several programs per call only to describe the machine.
"""

import contextlib
import difflib
import hashlib
import io
import json
import logging
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
from lm_eval import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import set_seed

from evals.results import BenchmarkResult, document_id_of, metric_key, read_result
from studies.settings import EvaluationSpec
from studies.spec import Benchmark

LOCAL_FORMATS = frozenset({"json", "csv", "parquet", "text", "arrow"})
MAX_REMEMBERED_TEXTS = 100_000
# The kept tasks hold the requests of the call in progress, and progress bars are process-wide.
_ONE_AT_A_TIME = threading.Lock()


def score(
    model: Any,
    tokenizer: Any,
    benchmarks: Sequence[Benchmark],
    *,
    include_path: Path | None,
    settings: EvaluationSpec,
    batch_size: int,
    device: str,
) -> list[BenchmarkResult]:
    """Score a model on benchmarks with lm-eval.

    Parameters
    ----------
    model
        A causal language model of transformers; it is moved to `device` and put in eval mode.
    tokenizer
        Its tokenizer.
    benchmarks
        lm-eval tasks by name, each with the per-document 0/1 metric to read: `acc`, or
        `exact_match,strict-match` where a task has several filters.
    include_path
        Folder with task files of its own, where names are looked up first and relative data files
        start. None: only the tasks that ship with lm-eval.
    settings
        Few-shot examples (a number replaces the task's own), limit of documents, seed.
    batch_size
        Prompts per forward pass, 1 or more.
    device
        Such as `cpu` or `cuda`.

    Returns
    -------
    list of BenchmarkResult
        In the order of `benchmarks`.

    Raises
    ------
    ValueError
        For an unknown benchmark, a metric it does not have, missing or empty data, few-shot
        examples where a benchmark allows none, or log-likelihoods that are not numbers.

    Notes
    -----
    Equal to `lm_eval run --model hf` with the same few-shot number, limit, seed and batch size.
    Like that command it seeds the global random state of Python, NumPy and torch.
    """
    if not benchmarks:
        return []
    names = tuple(dict.fromkeys(benchmark.name for benchmark in benchmarks))
    with _ONE_AT_A_TIME, _quiet():
        tasks = _tasks(names, include_path, settings.num_fewshot)
        for benchmark in benchmarks:
            _check_declared_metric(benchmark, tasks[benchmark.name])
        set_seed(settings.seed)
        for task in tasks.values():
            task.set_fewshot_seed(settings.seed)
        outcome = evaluate(
            _RememberingModel(model.to(device), tokenizer, batch_size),
            {"tasks": tasks},
            limit=settings.limit,
            bootstrap_iters=0,
            log_samples=True,
        )
        return [read_result(b, tasks[b.name], outcome) for b in benchmarks]


def document_texts(
    benchmarks: Sequence[Benchmark], *, include_path: Path | None, settings: EvaluationSpec
) -> list[dict[str, Any]]:
    """Prompt and right answer of every document, as lm-eval builds them, without scoring.

    Returns
    -------
    list of dict
        `benchmark`, `document_id` (as in the results of :func:`score`), `prompt` and `target`; a
        document with several right answers has the first.
    """
    if not benchmarks:
        return []
    names = tuple(dict.fromkeys(benchmark.name for benchmark in benchmarks))
    with _ONE_AT_A_TIME, _quiet():
        tasks = _tasks(names, include_path, settings.num_fewshot)
        return [
            {
                "benchmark": name,
                "document_id": document_id_of(document, place),
                "prompt": _prompt(task, document),
                "target": _target(task, document),
            }
            for name, task in tasks.items()
            for place, document in enumerate(task.eval_docs)
            if settings.limit is None or place < settings.limit
        ]


def _prompt(task: Any, document: Any) -> str:
    prompt = task.doc_to_text(document)
    if getattr(task, "multiple_input", False):  # what comes first is chosen, not what follows
        prompt = task.doc_to_choice(document)[prompt]
    return str(prompt)


def _target(task: Any, document: Any) -> str:
    target = task.doc_to_target(document)
    if isinstance(target, list):
        target = target[0]
    if isinstance(target, int) and task.OUTPUT_TYPE == "multiple_choice":
        target = task.doc_to_choice(document)[target]
    return f"{task.config.target_delimiter}{target}"


# ---------------------------------------------------------------- tasks, kept between calls


def _tasks(
    names: tuple[str, ...], include_path: Path | None, num_fewshot: int | None
) -> dict[str, Any]:
    if include_path is None:
        return _load_tasks(names, None, "", num_fewshot)
    if not include_path.is_dir():
        raise ValueError(f"no folder with benchmarks at {include_path}")
    folder = include_path.resolve()
    return _load_tasks(names, folder, _folder_digest(folder), num_fewshot)


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _manager(folder: Path | None, _digest: str, include_defaults: bool) -> TaskManager:
    return TaskManager(include_path=folder, include_defaults=include_defaults)


@lru_cache(maxsize=4)
def _load_tasks(
    names: tuple[str, ...], folder: Path | None, digest: str, num_fewshot: int | None
) -> dict[str, Any]:
    manager = _manager(folder, digest, False)
    if not set(names) <= set(manager.all_subtasks):
        # Reading the thousands of task files of lm-eval takes seconds: only when needed.
        manager = _manager(folder, digest, True)
    for name in names:
        _check_name(name, manager)
    with tempfile.TemporaryDirectory(prefix="grokpath-benchmarks-") as private:
        # A group written in place is lm-eval's way to load tasks with some fields replaced.
        members = [
            {"task": name, **_own_data(name, manager, folder, Path(private))} for name in names
        ]
        tasks = manager.load([{"group": "study", "task": members}])["tasks"]
    for name, task in tasks.items():
        if num_fewshot and task.get_config("num_fewshot") == 0:
            raise ValueError(
                f"benchmark {name!r} allows no few-shot examples (its task file says "
                f"num_fewshot: 0), the study asks for {num_fewshot}; set num_fewshot to 0"
            )
        if num_fewshot is not None:
            task.set_config("num_fewshot", num_fewshot)
    return dict(tasks)


def _check_name(name: str, manager: TaskManager) -> None:
    if name in manager.all_subtasks:
        return
    if name in manager.all_tasks:
        members = [task for task in manager.all_subtasks if task.startswith(name)]
        raise ValueError(
            f"benchmark {name!r} is a group of lm-eval tasks; name the tasks themselves"
            + (f", such as {', '.join(members[:3])}" if members else "")
        )
    near = difflib.get_close_matches(name, manager.all_subtasks, n=3)
    raise ValueError(
        f"unknown benchmark {name!r}: no lm-eval task of that name"
        + (f"; did you mean {', '.join(near)}?" if near else "; `lm_eval ls tasks` lists them")
    )


def _own_data(
    name: str, manager: TaskManager, folder: Path | None, private: Path
) -> dict[str, Any]:
    """Fields to replace in a task with data files of its own: absolute paths, a private cache."""
    entry = manager.task_index[name]
    config = entry.cfg or {}
    kwargs = config.get("dataset_kwargs") or {}
    if folder is None or folder not in (entry.yaml_path or Path()).parents:
        return {}
    if config.get("dataset_path") not in LOCAL_FORMATS:
        return {}
    files = _absolute(kwargs.get("data_files"), folder, name)
    # Read into memory from a cache of our own: nothing to share, race for, or leave behind.
    private_cache = {"cache_dir": str(private), "keep_in_memory": True}
    return {"dataset_kwargs": {**kwargs, "data_files": files, **private_cache}}


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


def _check_declared_metric(benchmark: Benchmark, task: Any) -> None:
    """Find a wrong metric before the model has run, where the task file lists all metrics."""
    metric = benchmark.metric.partition(",")[0]
    if task.OUTPUT_TYPE == "multiple_choice" and task.get_config("process_results") is None:
        metric_key(Benchmark(name=benchmark.name, metric=metric), task.aggregation())


# ---------------------------------------------------------------- the model, and silence


class _RememberingModel(HFLM):
    """lm-eval's transformers model; remembers token ids, which the next checkpoint needs again."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self._token_ids = _token_ids(_tokenizer_digest(tokenizer)) if tokenizer.is_fast else {}

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """Token ids of a text, as lm-eval encodes it."""
        key = (string, args, tuple(kwargs.items()))
        known = self._token_ids.get(key)
        if known is None:
            known = super().tok_encode(string, *args, **kwargs)
            if len(self._token_ids) < MAX_REMEMBERED_TEXTS:
                self._token_ids[key] = known
        return known.copy()


@lru_cache(maxsize=1)
def _token_ids(_digest: str) -> dict[Any, list[int]]:
    return {}


def _tokenizer_digest(tokenizer: Any) -> str:
    """Digest of all that decides a fast tokenizer's ids; where it was loaded from does not."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last batch needed, not part of the tokenizer.
    del state["padding"], state["truncation"]
    state["class"] = type(tokenizer).__qualname__
    state["special_tokens"] = tokenizer.special_tokens_map
    state["split_special_tokens"] = tokenizer.split_special_tokens
    return hashlib.sha256(json.dumps(state, default=repr).encode()).hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval and datasets from writing logs and progress bars; errors are still raised."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
