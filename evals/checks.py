"""What would go wrong with a study's benchmarks, said before anything is downloaded or trained."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.registry import (
    DEFAULT_METRIC_REGISTRY,
    HIGHER_IS_BETTER_REGISTRY,
    metric_registry,
)

from evals.catalog import LOCAL_FORMATS, TaskFile, find_task, tasks_folders
from evals.definitions import definition, is_function
from evals.results import metric_key
from evals.sandbox import BOXED
from studies.settings import EvaluationSpec
from studies.spec import Benchmark

CHECKER = ("code_checks.py", "code_tasks.py", "sandbox.py", "boxed/*.py")
"""Our files that decide whether a program passes."""


def check_benchmarks(
    benchmarks: Sequence[Benchmark], *, settings: EvaluationSpec, folders: Sequence[Path] = ()
) -> dict[str, str]:
    """Look up every benchmark and what the study asks of it; needs no data and no network.

    Parameters
    ----------
    benchmarks
        The benchmarks of a study.
    settings
        Their settings; the study's `tasks_folder` is looked in after `folders`.
    folders
        Folders with task files that the study brings.

    Returns
    -------
    dict
        Name to a digest of what defines the benchmark (:func:`definition`). Data on the hub are
        known by their commit, not here.

    Raises
    ------
    ValueError
        One line for each benchmark that could not be scored, and why.
    """
    digests: dict[str, str] = {}
    problems = []
    for benchmark in dict.fromkeys(benchmarks):
        try:
            task = find_task(benchmark, [*folders, *tasks_folders(settings)])
            check_task(benchmark, task, settings)
            digest = definition(task)
            if benchmark.name in BOXED:
                digest = _with_checker(digest)
            if digests.setdefault(benchmark.name, digest) != digest:
                raise ValueError(
                    f"benchmark {benchmark.name!r} means different task files in different "
                    "domains; give one of the tasks another name"
                )
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return digests


def hub_datasets(
    benchmarks: Sequence[Benchmark], *, settings: EvaluationSpec, folders: Sequence[Path] = ()
) -> list[str]:
    """Repositories on the hub that hold the benchmarks' data, to be pinned to a commit.

    Those that a Python task or a function loads by itself are not known from its file.
    """
    found = set()
    for benchmark in benchmarks:
        config = find_task(benchmark, [*folders, *tasks_folders(settings)]).config
        path = config.get("dataset_path")
        if isinstance(path, str) and path not in LOCAL_FORMATS and not Path(path).exists():
            found.add(path)
    return sorted(found)


def check_task(benchmark: Benchmark, task: TaskFile, settings: EvaluationSpec) -> None:
    """Refuse what the study cannot ask of this task, as far as its file tells."""
    name, config = task.name, task.config
    if config.get("unsafe_code"):
        raise ValueError(
            f"benchmark {name!r} runs model-written code in this process (unsafe_code) and is "
            f"never scored; use {' or '.join(BOXED)}, which run it in a sandbox"
        )
    if "class" in config:
        return  # what a Python task can do only it knows
    wanted = num_fewshot(benchmark, settings)
    if wanted and config.get("num_fewshot") == 0:
        raise ValueError(
            f"benchmark {name!r} allows no few-shot examples (its task file says "
            f"num_fewshot: 0), the study asks for {wanted}; set num_fewshot to 0"
        )
    metrics = config.get("metric_list")
    if metrics is None:
        metrics = [{"metric": m} for m in DEFAULT_METRIC_REGISTRY[_output_type(config)]]
    _check_no_hub_metric(name, config, metrics)
    names = [str(one["metric"]) for one in metrics]
    _check_direction(benchmark, metrics)
    if not any(is_function(metric) for metric in names):  # these name their numbers themselves
        filters = [one["name"] for one in config.get("filter_list") or [{"name": "none"}]]
        metric_key(benchmark, [f"{metric},{kept}" for metric in names for kept in filters])


def _check_direction(benchmark: Benchmark, metrics: list[Any]) -> None:
    wanted = benchmark.metric.partition(",")[0]
    for one in metrics:
        metric, better = str(one["metric"]), one.get("higher_is_better")
        if better is None and metric in metric_registry:
            better = HIGHER_IS_BETTER_REGISTRY[metric]
        if metric == wanted and better is False:
            raise ValueError(
                f"metric {wanted!r} of benchmark {benchmark.name!r} is better when it is lower, "
                "and accuracy is a share of right answers; choose one such as acc or exact_match"
            )


def num_fewshot(benchmark: Benchmark, settings: EvaluationSpec) -> int | None:
    """Few-shot examples that are asked for: the benchmark's own number, else the study's."""
    return settings.num_fewshot if benchmark.num_fewshot is None else benchmark.num_fewshot


def _with_checker(digest: str) -> str:
    """The digest with that of what checks programs: another checker is another benchmark."""
    house = Path(__file__).parent
    files = sorted(path for pattern in CHECKER for path in house.glob(pattern))
    parts = [digest.encode(), *(path.read_bytes() for path in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _output_type(config: Mapping[str, Any]) -> str:
    return str(config.get("output_type", "generate_until"))


def _check_no_hub_metric(name: str, config: Mapping[str, Any], metrics: list[Any]) -> None:
    if config.get("process_results") is not None:
        return  # computes its numbers itself; the list only names them
    for one in metrics:
        metric = str(one["metric"])
        foreign = metric not in metric_registry and not is_function(metric)
        if one.get("hf_evaluate") or foreign:
            raise ValueError(
                f"benchmark {name!r}: lm-eval has no metric {metric!r} of its own and would fetch "
                "its code from the hub, which never runs here; use another benchmark, or a task "
                "file of your own with a metric that lm-eval has"
            )
