"""The outcome of lm-eval on one benchmark, as a result with one row per document."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from studies.spec import Benchmark

ROUNDING = 1e-6
CHOOSE = (
    "choose a metric that is 0 or 1 per document, such as acc or exact_match, or a share, such as "
    "f1, of which lm-eval takes the mean"
)

DOCUMENTS_SCHEMA = pa.schema(
    {
        "document_id": pa.int64(),
        "value": pa.float64(),
        "correct": pa.bool_(),
        "target": pa.string(),
        "response": pa.string(),
    }
)


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """Score of one checkpoint on one benchmark."""

    benchmark: str
    metric: str
    """Names of the lm-eval task, and of the metric in the study."""
    value: float
    """The metric over all documents, as lm-eval aggregates it."""
    std_error: float | None
    """Of the mean over documents: sd / sqrt(n) with ddof 1; None for one document."""
    num_documents: int
    metrics: dict[str, float]
    """Every metric of the benchmark; the key is `metric,filter` where a filter has a name."""
    documents: pa.Table
    """One row per document: document_id (int64: the integer `document_id` of the data, else the
    position), value (float64: the metric, 0 to 1), correct (bool: value is 1; null for all
    documents where that of any is neither 0 nor 1), target (str: the expected answer), response
    (str: the generated text, or the choice with the highest log-likelihood)."""
    dataset: str
    commit: str | None
    """Commit of the data set where it comes from the hub."""
    version: str | None
    """Version of the task file."""
    documents_digest: str
    """SHA-256 over documents, prompts and right answers in their order: checkpoints with one digest
    had the same documents."""


def document_id_of(document: Any, position: int) -> int:
    """Number of a document: the integer `document_id` of its data, else its position."""
    given = document.get("document_id") if hasattr(document, "get") else None
    return given if isinstance(given, int) else position


def metric_key(benchmark: Benchmark, available: Iterable[str]) -> str:
    """lm-eval's `metric,filter` key of a benchmark's metric; ValueError when it has no such metric.

    >>> metric_key(Benchmark(name="arc_easy", metric="acc"), ["acc,none", "acc_norm,none"])
    'acc,none'
    """
    keys = sorted(available)
    wanted = benchmark.metric
    found = [key for key in keys if wanted in (key, key.partition(",")[0])]
    if not found:
        raise ValueError(
            f"benchmark {benchmark.name!r} has no metric {wanted!r}; it has "
            f"{', '.join(dict.fromkeys(map(short_key, keys)))}"
        )
    if len(found) > 1:
        raise ValueError(
            f"benchmark {benchmark.name!r} has metric {wanted!r} under several filters; "
            f"name one of {', '.join(map(repr, found))}"
        )
    return found[0]


def short_key(key: str) -> str:
    """A metric key without the name of lm-eval's default filter."""
    return key.removesuffix(",none")


def read_result(benchmark: Benchmark, task: Any, outcome: Mapping[str, Any]) -> BenchmarkResult:
    """Read one benchmark from the outcome of `lm_eval.evaluate`, with samples.

    `task` is the lm-eval task that was scored; it has the choices of a document.

    Raises
    ------
    ValueError
        When the metric is missing or is not one share per document of which lm-eval takes the
        mean, or the log-likelihoods are not numbers.
    """
    scores = outcome["results"][benchmark.name]
    metrics = {
        key: value
        for key, value in scores.items()
        if "," in key and isinstance(value, int | float | np.number)
    }
    key = metric_key(benchmark, metrics)
    metric, _, filter_name = key.partition(",")
    samples = [s for s in outcome["samples"][benchmark.name] if s["filter"] == filter_name]
    values_N = _values(benchmark, metric, samples)
    _check_log_likelihoods(benchmark, samples)
    _check_mean(benchmark, float(metrics[key]), values_N)
    right_or_wrong = bool(np.isin(values_N, (0, 1)).all())
    rows = [
        {
            **_document(task, metric, sample),
            "value": value,
            "correct": bool(value) if right_or_wrong else None,
        }
        for sample, value in zip(samples, values_N.tolist(), strict=True)
    ]
    num_documents = len(samples)
    return BenchmarkResult(
        benchmark=benchmark.name,
        metric=benchmark.metric,
        value=float(metrics[key]),
        std_error=(
            float(values_N.std(ddof=1)) / math.sqrt(num_documents) if num_documents > 1 else None
        ),
        num_documents=num_documents,
        metrics={short_key(name): float(value) for name, value in metrics.items()},
        documents=pa.Table.from_pylist(rows, schema=DOCUMENTS_SCHEMA),
        dataset=_dataset_of(task),
        commit=getattr(task, "commit", None),
        version=_version_of(task),
        documents_digest=_documents_digest(samples),
    )


def _dataset_of(task: Any) -> str:
    names = [task.DATASET_PATH, task.DATASET_NAME]
    return "/".join(str(name) for name in names if name is not None)


def _version_of(task: Any) -> str | None:
    version = (task.get_config("metadata") or {}).get("version")
    return None if version is None else str(version)


def _documents_digest(samples: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        hashes = [sample[f"{part}_hash"] for part in ("doc", "prompt", "target")]
        digest.update(" ".join(hashes).encode())
    return digest.hexdigest()


def _values(benchmark: Benchmark, metric: str, samples: list[dict[str, Any]]) -> np.ndarray:
    values = [sample.get(metric) for sample in samples]
    numbers = [v for v in values if isinstance(v, int | float | np.number) and math.isfinite(v)]
    if len(numbers) < len(values):
        raise ValueError(
            f"metric {metric!r} of benchmark {benchmark.name!r} is not a number for "
            f"{len(values) - len(numbers)} of {len(values)} documents; {CHOOSE}"
        )
    values_N = np.array(numbers, dtype=np.float64)
    outside = np.flatnonzero((values_N < -ROUNDING) | (values_N > 1 + ROUNDING))
    if len(outside):
        raise ValueError(
            f"metric {metric!r} of benchmark {benchmark.name!r} is {values_N[outside[0]]:g} for "
            f"one of its documents, and accuracy is a share from 0 to 1; {CHOOSE}"
        )
    return values_N.clip(0, 1)


def _check_mean(benchmark: Benchmark, value: float, values_N: np.ndarray) -> None:
    """Refuse a metric that lm-eval aggregates otherwise: documents could not be left out of it."""
    if not math.isclose(value, values_N.mean(), rel_tol=0, abs_tol=ROUNDING):
        raise ValueError(
            f"metric {benchmark.metric!r} of benchmark {benchmark.name!r} is {value:g} over all "
            f"documents, and the mean over them is {values_N.mean():g}; accuracy is such a mean, "
            f"{CHOOSE}"
        )


def _log_likelihoods(sample: Mapping[str, Any]) -> list[float]:
    responses = [r for r in sample["filtered_resps"] if isinstance(r, tuple | list)]
    return [r[0] for r in responses if len(r) == 2 and isinstance(r[0], float)]


def _check_log_likelihoods(benchmark: Benchmark, samples: list[dict[str, Any]]) -> None:
    # The largest of NaNs is the first choice: a broken model would score by where answers stand.
    broken = sum(any(map(math.isnan, _log_likelihoods(sample))) for sample in samples)
    if broken:
        raise ValueError(
            f"the model's log-likelihoods on benchmark {benchmark.name!r} are NaN for {broken} of "
            f"{len(samples)} documents; look for NaN or infinite weights in this checkpoint"
        )


def _document(task: Any, metric: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    doc = sample["doc"]
    if task.OUTPUT_TYPE == "multiple_choice":
        target, response = _chosen(task, metric, sample)
    else:
        target, response = sample["target"], sample["filtered_resps"][0]
    return {
        "document_id": document_id_of(doc, sample["doc_id"]),
        "target": _text(target),
        "response": _text(response),
    }


def _chosen(task: Any, metric: str, sample: Mapping[str, Any]) -> tuple[Any, str]:
    """Text of the right choice and of the likeliest one, in the metric's own normalization."""
    choices = task.doc_to_choice(sample["doc"])
    right = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    lengths = {
        "acc_norm": [len(choice) for choice in choices],
        "acc_bytes": [len(choice.encode()) for choice in choices],
    }.get(metric, [1] * len(choices))
    # With mutual information, unconditional log-likelihoods follow those of the choices.
    log_likelihoods = np.array(_log_likelihoods(sample)[: len(choices)])
    with np.errstate(divide="ignore", invalid="ignore"):  # as lm-eval divides
        chosen = int(np.argmax(log_likelihoods / np.array(lengths, float)))
    positions = right if isinstance(right, list) else [right]
    texts = [choices[p] if isinstance(p, int) and p < len(choices) else p for p in positions]
    return texts if isinstance(right, list) else texts[0], choices[chosen]


def _text(value: Any) -> str:
    return " | ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
