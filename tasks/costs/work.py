"""What one run of a step would take: tokens, operations, bytes that stay on disk."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from models.flops import ModelShape, Texts, forward_flops, training_flops, tuning_flops
from store.artifacts import Artifact, Checkpoint
from studies.nano_model import PretrainingSpec
from studies.settings import RoutingSpec, TuningSpec
from studies.spec import Benchmark, Study
from tasks.costs.amounts import Amount, Known, total
from tasks.costs.shapes import Shapes
from tasks.costs.texts import (
    TOKENS_PER_SAMPLE,
    Reading,
    Split,
    corpus_size,
    corpus_texts,
    instruction_texts,
    probe_texts,
)
from tasks.costs.weights import Revisions
from tasks.plan import Plan, Planned

DOCUMENTS = 1000
"""Of a benchmark that was never scored here and has no limit."""

TOKENS_PER_DOCUMENT = 1000
"""Of a benchmark document: prompts and answers of all its requests together."""

CHOICES = 4
"""Requests per document of the nano benchmarks, at most."""

PROBE_BYTES, INSTRUCTION_BYTES = 4, 2
"""Per token, compressed: ids, flags and, of a probe, its text."""


@dataclass(frozen=True)
class Work:
    """What one run takes; None where it is not known or there is none."""

    tokens: Amount | None = None
    flops: Amount | None = None
    num_bytes: Amount | None = None
    dtype: str = "float32"


class Estimates:
    """Estimates the runs of one plan; what is assumed for them gathers in `notes`."""

    def __init__(self, study: Study, plan: Plan, revisions: Revisions) -> None:
        self.notes: list[str] = []
        corpora = [entry for entry in plan.entries if entry.step_name == "corpus"]
        self.shapes = Shapes(study, corpora, revisions, self.note)
        scored = [e.artifact for e in plan.entries if e.step_name == "benchmarks" and e.is_here]
        self._scored = [artifact for artifact in scored if artifact is not None]
        self._documents: dict[str, int] | None = None

    def work(self, entry: Planned) -> Work:
        """What a run that is to be made takes; nothing is said of steps without a model."""
        estimate = _ESTIMATES.get(entry.step_name)
        return estimate(self, entry.inputs) if estimate is not None else Work()

    def note(self, text: str) -> None:
        """Say once what was assumed."""
        if text not in self.notes:
            self.notes.append(text)

    def num_documents(self, benchmark: Benchmark, items: Any) -> Amount:
        """Documents of a benchmark: as scored before, as in the nano corpus, else assumed."""
        if self._documents is None:
            self._documents = _scored_documents(self._scored)
        if benchmark.name in self._documents:
            return Amount(self._documents[benchmark.name])
        if items is not None:
            domain = benchmark.name.removeprefix("nano_").rpartition("_")[0]
            number = _num_items(items, domain)
            if number:
                return Amount(number)
        self.note(
            f"benchmarks that were never scored here have {DOCUMENTS:,} documents, unless limited"
        )
        return Amount(DOCUMENTS, Known.about)


def _scored_documents(scored: list[Artifact]) -> dict[str, int]:
    documents: dict[str, int] = {}
    for artifact in scored:
        rows = pq.read_table(
            artifact.path / "benchmark_scores.parquet", columns=["benchmark", "num_documents"]
        )
        documents |= dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    return documents


def _num_items(items: Artifact | Planned, domain: str) -> int:
    if isinstance(items, Planned):
        return corpus_size(items.inputs["corpus"]).num_samples[domain, "benchmark"]
    file = items.path / f"{domain}.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


# ---------------------------------------------------------------- by step


def _pretraining(estimates: Estimates, inputs: dict[str, Any]) -> Work:
    spec: PretrainingSpec = inputs["pretraining"]
    shape = estimates.shapes.of_nano(spec, inputs["corpus"])
    texts = corpus_texts(spec.num_steps * spec.batch_size)
    return Work(
        tokens=Amount(texts.num_tokens),
        flops=Amount(training_flops(shape, texts), Known.about),
        num_bytes=Amount(len(spec.checkpoint_steps) * shape.num_bytes("float32"), Known.about),
    )


def _probes(estimates: Estimates, inputs: dict[str, Any]) -> Work:
    planned = Planned("probes", "", None, None, inputs)
    tokens = _tokens(list(probe_texts(planned).values()))
    return Work(num_bytes=_about(tokens, PROBE_BYTES))


def _instructions(estimates: Estimates, inputs: dict[str, Any]) -> Work:
    planned = Planned("instructions", "", None, None, inputs)
    return Work(num_bytes=_about(_tokens([instruction_texts(planned)]), INSTRUCTION_BYTES))


def _routing(estimates: Estimates, inputs: dict[str, Any]) -> Work:
    spec: RoutingSpec = inputs["routing"]
    readings = probe_texts(inputs["probes"])
    shape = estimates.shapes.of(inputs["checkpoint"])
    tokens = _tokens(list(readings.values()))
    if None in readings.values():
        estimates.note("probe sets of a whole data set on a hub, without a limit, are not counted")
    if shape is None:
        return Work(tokens, dtype=spec.dtype)
    flops = [_amount(reading, forward_flops, shape) for reading in readings.values()]
    return Work(tokens, total(flops), _routing_bytes(shape, readings, spec), spec.dtype)


def _routing_bytes(
    shape: ModelShape, readings: dict[Split, Reading | None], spec: RoutingSpec
) -> Amount:
    """Size of the arrays of :mod:`store.tensors`; what they hold of a sample or token follows."""
    per_row = shape.num_moe_layers * shape.num_experts * 4
    amounts = [Amount(per_row * shape.hidden_size)]  # router_weights.npy
    for (_, split), reading in readings.items():
        if reading is None:
            continue
        texts = reading.texts
        num_bytes = texts.num_texts * (per_row + 24)
        if split == "probe":
            num_bytes += min(spec.max_tokens, texts.num_tokens) * (per_row + 16)
            num_bytes += min(spec.kernel_samples, texts.num_texts) ** 2 * 4
        amounts.append(Amount(num_bytes, max(reading.known, Known.at_most)))
    return sum(amounts[1:], start=amounts[0])


def _tuning(estimates: Estimates, inputs: dict[str, Any]) -> Work:
    spec: TuningSpec = inputs["tuning"]
    reading = instruction_texts(inputs["instructions"])
    if reading is None:
        estimates.note("tuning on a whole data set on a hub, without a limit, is not counted")
        return Work(dtype=spec.dtype)
    epochs = Reading(reading.texts.times(spec.epochs), reading.known)
    tokens = _tokens([epochs])
    shape = estimates.shapes.of(inputs["checkpoint"])
    if shape is None:
        return Work(tokens, dtype=spec.dtype)
    num_adapted = shape.num_adapted(spec.targets, spec.rank)
    return Work(
        tokens=tokens,
        flops=_amount(epochs, lambda s, texts: tuning_flops(s, texts, num_adapted), shape),
        num_bytes=Amount(4 * num_adapted, Known.about),
        dtype=spec.dtype,
    )


def _benchmarks(estimates: Estimates, inputs: dict[str, Any]) -> Work:
    work = _documents(estimates, inputs, inputs["checkpoint"], requests=CHOICES)
    return replace(work, dtype=inputs["evaluation"].dtype)


def _contamination(estimates: Estimates, inputs: dict[str, Any]) -> Work:
    if inputs["contamination"].removed_share == 0:
        return Work(Amount(0), Amount(0))
    work = _documents(estimates, inputs, inputs["last"], requests=1)
    return replace(work, dtype=inputs["evaluation"].dtype)


def _documents(
    estimates: Estimates, inputs: dict[str, Any], checkpoint: Checkpoint, requests: int
) -> Work:
    """Every document of every benchmark through a model, `requests` times in the nano study."""
    evaluation, items = inputs["evaluation"], inputs["items"]
    tokens, flops, shape = [], [], estimates.shapes.of(checkpoint)
    for benchmark in [one for chosen in inputs["benchmarks"].values() for one in chosen]:
        number = estimates.num_documents(benchmark, items)
        limit = benchmark.limit or evaluation.limit
        if limit is not None and (limit < number.value or number.known is Known.about):
            number = Amount(limit, min(number.known, Known.at_most))
        nano = items is not None
        texts = Texts.alike(
            int(number.value), requests * TOKENS_PER_SAMPLE if nano else TOKENS_PER_DOCUMENT
        )
        known = max(number.known, Known.at_most if nano else Known.about)
        tokens.append(Amount(texts.num_tokens, known))
        if shape is not None:
            flops.append(Amount(forward_flops(shape, texts), known))
        if not nano:
            estimates.note(
                f"a benchmark document has {TOKENS_PER_DOCUMENT:,} tokens, of all its requests"
            )
    return Work(total(tokens), total(flops))


_ESTIMATES: dict[str, Callable[[Estimates, dict[str, Any]], Work]] = {
    "pretraining": _pretraining,
    "probes": _probes,
    "instructions": _instructions,
    "routing": _routing,
    "tuning": _tuning,
    "benchmarks": _benchmarks,
    "contamination": _contamination,
}


def _tokens(readings: list[Reading | None]) -> Amount | None:
    return total(
        None if reading is None else Amount(reading.texts.num_tokens, reading.known)
        for reading in readings
    )


def _amount(
    reading: Reading | None, flops: Callable[[ModelShape, Texts], int], shape: ModelShape
) -> Amount | None:
    return None if reading is None else Amount(flops(shape, reading.texts), reading.known)


def _about(tokens: Amount | None, num_bytes: int) -> Amount | None:
    return None if tokens is None else Amount(tokens.value * num_bytes, Known.about)
