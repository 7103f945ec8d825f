"""Refuses benchmarks that cannot be scored, and documents that would be scored wrongly.

Task files are checked before anything is downloaded or trained, documents before any is scored:
lm-eval would give wrong numbers for them without an error.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.registry import (
    DEFAULT_METRIC_REGISTRY,
    HIGHER_IS_BETTER_REGISTRY,
    metric_registry,
)

from evals.catalog import LOCAL_FORMATS, TaskFile, definition, find_task, is_function, tasks_folders
from evals.results import document_id_of, metric_key
from evals.sandbox import BOXED
from studies.settings import EvaluationSpec
from studies.spec import Benchmark

CHECKER = ("code_checks.py", "code_tasks.py", "sandbox.py", "boxed/*.py")
"""Our files that decide whether a program passes."""
FIELD = re.compile(r"\{\{\s*(\w+)\s*\}\}")
HIDDEN = (-1, "-1")
"""In place of an answer where a public test split hides it."""


def check_benchmarks(
    benchmarks: Sequence[Benchmark], *, settings: EvaluationSpec, folders: Sequence[Path] = ()
) -> dict[str, str]:
    """Look up every benchmark and check its settings; needs no data and no network.

    Task files are looked up in `folders`, then in the study's `tasks_folder`.

    Returns
    -------
    dict
        Name to a digest of what defines the benchmark (:func:`evals.catalog.definition`). Data on
        the hub are identified by their commit, not here.

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
    """Refuse settings that this task does not allow, as far as its file shows."""
    name, config = task.name, task.config
    if config.get("unsafe_code"):
        raise ValueError(
            f"benchmark {name!r} runs model-written code in this process (unsafe_code) and is "
            f"never scored; use {' or '.join(BOXED)}, which run it in a sandbox"
        )
    if "class" in config:
        return  # a Python task has no settings in its file
    wanted = num_fewshot(benchmark, settings)
    if wanted and config.get("num_fewshot") == 0:
        raise ValueError(
            f"benchmark {name!r} allows no few-shot examples (num_fewshot: 0 in its task file), "
            f"the study requests {wanted}; set num_fewshot to 0"
        )
    metrics = config.get("metric_list")
    if metrics is None:
        metrics = [{"metric": m} for m in DEFAULT_METRIC_REGISTRY[_output_type(config)]]
    _check_no_hub_metric(name, config, metrics)
    names = [str(one["metric"]) for one in metrics]
    _check_direction(benchmark, metrics)
    if not any(is_function(metric) for metric in names):  # these name their numbers themselves
        filters = [one["name"] for one in config.get("filter_list") or [{"name": "none"}]]
        metric_key(benchmark, [f"{metric},{filter_}" for metric in names for filter_ in filters])


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
    """Few-shot examples: the benchmark's own number, else the study's."""
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


# ---------------------------------------------------------------- documents


def check_documents(name: str, task: Any, limit: int | None) -> None:
    """Refuse documents with one number, an empty field, no answer, or one that is no choice.

    `task` is the lm-eval task with its data; of the documents the first `limit` are checked.

    Raises
    ------
    ValueError
        Naming the benchmark, the document and what to do.
    """
    documents = list(task.doc_iterator(limit=limit))
    _check_numbers(name, documents)
    _check_fields(name, task, documents)
    # A task that grades by a function of its own may need no answer.
    if task.OUTPUT_TYPE == "multiple_choice" and task.get_config("process_results") is None:
        _check_answers(name, task, documents)


def _check_numbers(name: str, documents: list[tuple[int, Any]]) -> None:
    places: dict[int, int] = {}
    for place, document in documents:
        number = document_id_of(document, place)
        first = places.setdefault(number, place)
        if first != place:
            raise ValueError(
                f"benchmark {name!r}: document_id {number} is the number of two documents, at "
                f"positions {first} and {place}; give every document its own, or none, and their "
                "positions are taken"
            )


def _check_fields(name: str, task: Any, documents: list[tuple[int, Any]]) -> None:
    """Refuse null in a field of the prompt, which would read None."""
    template = task.get_config("doc_to_text")
    if not isinstance(template, str) or "{%" in template:  # which may test for null
        return
    for place, document in documents:
        for field in FIELD.findall(template):
            if field in document and document[field] is None:
                raise ValueError(
                    f"benchmark {name!r}: document {document_id_of(document, place)} has null in "
                    f"{field!r}, from which its prompt is built; correct the data"
                )


def _check_answers(name: str, task: Any, documents: list[tuple[int, Any]]) -> None:
    answers = [
        task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
        for _, document in documents
    ]
    hidden = sum(answer in HIDDEN for answer in answers if not isinstance(answer, list))
    if hidden:
        raise ValueError(
            f"benchmark {name!r}: the answers of {hidden} of {len(answers)} documents are hidden "
            "(label -1), as in public test splits; choose a split with answers"
        )
    for (place, document), answer in zip(documents, answers, strict=True):
        choices = list(task.doc_to_choice(document))
        if "" in choices:
            raise ValueError(
                f"benchmark {name!r}: choice {choices.index('')} of document "
                f"{document_id_of(document, place)} is an empty text, which has no likelihood; "
                "correct the data"
            )
        for one in answer if isinstance(answer, list) else [answer]:
            if one in choices or (isinstance(one, int) and 0 <= one < len(choices)):
                continue
            raise ValueError(
                f"benchmark {name!r}: the answer of document {document_id_of(document, place)} is "
                f"{one!r}, expected the position of one of its {len(choices)} choices, from 0, or "
                "its text; correct the data, or doc_to_target in the task file"
            )
