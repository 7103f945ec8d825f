"""What a study would take before any of it runs: a sum over the missing nodes of its plan.

Every amount is one estimate, or None where it is not known; `notes` say what the estimates rest on
and why something is not known. Tokens follow from the samples, operations from tokens and the
model's shape (:mod:`models.flops`), seconds from earlier runs or from operations on a named GPU.
"""

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, NamedTuple

from models.flops import (
    ModelShape,
    Texts,
    forward_flops,
    training_flops,
    tuning_flops,
)
from store import artifacts
from store.artifacts import Artifact
from store.identity import canonical
from studies.settings import RoutingSpec
from studies.spec import Study
from tasks.checkpoints import TOKENS_PER_SAMPLE
from tasks.plan import Plan, Planned
from tasks.sizes import Samples, Sizes

UTILISATION = 0.25
"""Share of a GPU's published peak that is assumed to be reached, in every kind of step."""


class Gpu(NamedTuple):
    """Dense peaks in FLOP/s, without sparsity; that of float32 is outside of tensor cores."""

    bfloat16: float
    float32: float


GPUS = {  # https://www.nvidia.com/en-us/data-center/
    "A10": Gpu(125e12, 31.2e12),
    "A100-40GB": Gpu(312e12, 19.5e12),
    "A100-80GB": Gpu(312e12, 19.5e12),
    "B200": Gpu(2250e12, 80e12),
    "H100": Gpu(989e12, 67e12),
    "H100-NVL": Gpu(835e12, 60e12),
    "H200": Gpu(989e12, 67e12),
    "L4": Gpu(121e12, 30.3e12),
    "L40S": Gpu(362e12, 91.6e12),
}

COSTED = ("pretraining", "routing", "pathways", "measures", "tuning", "benchmarks")
"""The others read tables, for seconds to minutes, or score one checkpoint."""
SAMPLES = {"routing": "probes", "tuning": "instructions"}
DOCUMENTS, TOKENS_PER_DOCUMENT = 1000, 1000
"""Of a benchmark without a limit; prompts and answers of all requests together."""
AMOUNTS = ("tokens", "flops", "gpu_seconds", "cpu_seconds", "download", "disk")


@dataclass(frozen=True)
class Cost:
    """What one run, or all missing runs of a step, would take; None where it is not known."""

    step_name: str
    num_runs: int = 1
    num_reused: int = 0
    tokens: float | None = 0
    flops: float | None = 0
    gpu_seconds: float | None = 0
    cpu_seconds: float | None = 0
    download: float | None = 0
    disk: float | None = 0


@dataclass(frozen=True)
class Costs:
    """Costs of a study's steps in order, what they rest on, and what would stop the run."""

    steps: list[Cost]
    weights: float = 0
    """Bytes of downloaded weights on disk at once, besides the artifacts."""
    notes: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)

    @property
    def together(self) -> Cost:
        """Sum over the steps, of what is known."""
        counts = ((step.num_runs, step.num_reused) for step in self.steps)
        return _sum("together", self.steps, *map(sum, zip(*counts, strict=True)))


def study_costs(study: Study, plan: Plan, gpu: str | None = None) -> Costs:
    """Cost of everything in a plan that is to be run.

    `gpu`, one of GPUS, gives the time of steps that did not run here yet. Nano models are for
    processors: of them only measured times are reported.
    """
    sizes = Sizes(study)
    estimates = _Estimates(study, sizes, gpu)
    missing = [e for e in plan.entries if e.artifact is None and e.step_name in COSTED]
    runs = [estimates.cost(entry) for entry in {_identity(e): e for e in missing}.values()]
    steps = [
        _sum(name, [run for run in runs if run.step_name == name], *counts)
        for name, counts in plan.counts().items()
    ]
    weights = min(_sum("", runs).download or 0, int(study.runtime.disk_budget))
    notes = [f"{', '.join(about)}: {text}" for text, about in sizes.notes.items()]
    return Costs(steps, weights, notes, list(sizes.obstacles))


def _identity(entry: Planned) -> Any:
    """The run, or its inputs where domains tuned on the same samples share the adapter."""
    if entry.step_name != "tuning":
        return id(entry)
    given = entry.inputs["instructions"]
    samples = given.digest if isinstance(given, Artifact) else given.inputs["samples"]
    return repr((entry.checkpoint, entry.inputs["tuning"], samples))


def _sum(name: str, costs: list[Cost], num_runs: int = 0, num_reused: int = 0) -> Cost:
    """Costs added up as far as they are known; unknown where nothing but zeros is known."""
    amounts = {}
    for amount in AMOUNTS:
        values = [getattr(cost, amount) for cost in costs]
        total = sum(value for value in values if value is not None)
        amounts[amount] = total if total or None not in values else None
    return Cost(name, num_runs, num_reused, **amounts)


class _Estimates:
    """Estimates single runs; notes (with what they are about) and obstacles gather here."""

    def __init__(self, study: Study, sizes: Sizes, gpu: str | None) -> None:
        self._sizes, self._gpu = sizes, gpu
        self._device = study.runtime.device
        self._kinds = {series.name: series.source.kind for series in study.series}
        self._records: dict[str, list[dict[str, Any]]] = {}

    def cost(self, entry: Planned) -> Cost:
        """What one run takes."""
        checkpoint = entry.inputs.get("checkpoint")
        series = checkpoint.series if checkpoint else str(entry.inputs["label"])
        shape = self._sizes.shape(series, checkpoint)
        run = replace(Cost(entry.step_name), **self._work(entry, shape))
        if checkpoint is not None and checkpoint.repository and run.flops != 0:
            run = replace(run, download=self._sizes.download(checkpoint))
        on_gpu = self._device != "cpu" and self._kinds[series] != "nano"
        return replace(run, **self._time(run, entry, shape, self._gpu if on_gpu else None))

    def _work(self, entry: Planned, shape: ModelShape | None) -> dict[str, Any]:
        """Tokens and operations of a step that runs a model, and bytes of its artifact."""
        name, inputs = entry.step_name, entry.inputs
        texts = self._texts(entry)
        if texts is None or shape is None:
            return {"tokens": texts and texts.num_tokens, "flops": None, "disk": None}
        flops, disk = forward_flops(shape, texts), 0.0
        if name == "pretraining":
            flops = training_flops(shape, texts)
            disk = len(inputs["pretraining"].checkpoint_steps) * 4 * shape.num_parameters
        elif name == "tuning":
            num_adapted = shape.num_adapted(inputs["tuning"].targets, inputs["tuning"].rank)
            flops, disk = tuning_flops(shape, texts, num_adapted), 4 * num_adapted
        elif name == "routing":
            samples = self._sizes.samples(inputs["probes"])
            disk = _routing_bytes(shape, samples or {}, inputs["routing"])
        return {"tokens": texts.num_tokens, "flops": flops, "disk": disk}

    def _time(
        self, run: Cost, entry: Planned, shape: ModelShape | None, gpu: str | None
    ) -> dict[str, Any]:
        """Seconds as earlier runs here took, else as a GPU would take."""
        name = run.step_name
        earlier = self._earlier(entry, shape, run.tokens)
        for kind, seconds in earlier.items():
            if kind == "gpu_seconds" or not (gpu and run.flops):
                self._sizes.note("time as earlier runs on models of this size took here", name)
                return {kind: fmean(seconds)}
        if gpu and run.flops:
            text = f"time of one {gpu} at {UTILISATION:.0%} of its published dense peak"
            self._sizes.note(f"{text}; several cards share it", name)
            spec = entry.inputs["evaluation" if name == "benchmarks" else name]
            return {"gpu_seconds": run.flops / (UTILISATION * getattr(GPUS[gpu], spec.dtype))}
        if run.flops == 0:
            return {}
        self._sizes.note("time not known: none ran here yet, and no --gpu with known FLOPs", name)
        return {"cpu_seconds": None}

    def _earlier(
        self, entry: Planned, shape: ModelShape | None, tokens: float | None
    ) -> dict[str, list[float]]:
        """Seconds of runs of the step on models of the size, scaled by tokens where known."""
        models = {
            r["inputs"]["checkpoint"]["checkpoint"]: r["summary"] for r in self._of("routing")
        }
        seconds: dict[str, list[float]] = defaultdict(list)
        for record in self._of(entry.step_name):
            inputs = record["inputs"]
            if entry.step_name == "pretraining":
                model = canonical(entry.inputs["pretraining"].model)
                is_alike = inputs["pretraining"]["model"] == model
            else:
                known = models.get(inputs["checkpoint"]["checkpoint"])
                is_alike = (
                    shape and known and known["model"]["num_parameters"] == shape.num_parameters
                )
            if is_alike:
                then = self._tokens_of(record)
                kind = "gpu_seconds" if record["device"].startswith("cuda") else "cpu_seconds"
                seconds[kind].append(record["seconds"] * (tokens / then if tokens and then else 1))
        return dict(sorted(seconds.items(), reverse=True))

    def _tokens_of(self, record: dict[str, Any]) -> float:
        """Tokens of an earlier run; 0 where they are not known."""
        name, inputs = record["step_name"], record["inputs"]
        if name == "pretraining":
            spec = inputs["pretraining"]
            return spec["num_steps"] * spec["batch_size"] * TOKENS_PER_SAMPLE
        for other in self._of(SAMPLES[name]) if name in SAMPLES else ():
            if other["digest"] == inputs[SAMPLES[name]]["digest"]:
                texts = sum(
                    (self._sizes.samples(artifacts.reference(other)) or {}).values(), Texts()
                )
                return texts.num_tokens * (inputs["tuning"]["epochs"] if name == "tuning" else 1)
        return 0

    def _of(self, step_name: str) -> list[dict[str, Any]]:
        """Records of all artifacts of a step."""
        if step_name not in self._records:
            found = self._records[step_name] = []
            places = (artifacts.artifacts_root() / step_name).glob(f"v*-*/{artifacts.RECORD}")
            for place in sorted(places):
                with suppress(OSError, ValueError):  # damaged: it is no run to estimate from
                    found.append(artifacts.read_record(place.parent))
        return self._records[step_name]

    def _texts(self, entry: Planned) -> Texts | None:
        """What goes through the model; None where it is not known."""
        name, inputs = entry.step_name, entry.inputs
        if name == "pretraining":
            num_samples = inputs["pretraining"].num_steps * inputs["pretraining"].batch_size
            return Texts(num_samples, num_samples * TOKENS_PER_SAMPLE)
        if name == "benchmarks":
            limit = inputs["evaluation"].limit or DOCUMENTS
            chosen = [benchmark for some in inputs["benchmarks"].values() for benchmark in some]
            number = sum(benchmark.limit or limit for benchmark in chosen)
            length = TOKENS_PER_DOCUMENT if inputs["items"] is None else TOKENS_PER_SAMPLE
            self._sizes.note(f"{DOCUMENTS:,} documents unless limited, of {length:,} tokens", name)
            return Texts(number, number * length)
        samples = self._sizes.samples(inputs[SAMPLES[name]]) if name in SAMPLES else {}
        texts = None if samples is None else sum(samples.values(), start=Texts())
        return texts.times(inputs["tuning"].epochs) if texts and name == "tuning" else texts


def _routing_bytes(shape: ModelShape, samples: Samples, spec: RoutingSpec) -> float:
    """Size of the arrays of :mod:`store.tensors`; what they hold of a sample or token follows."""
    per_row = shape.num_moe_layers * shape.num_experts * 4
    num_bytes = per_row * shape.hidden_size  # router_weights.npy
    for (_, split), texts in samples.items():
        num_bytes += texts.num_texts * (per_row + 24)
        if split == "probe":
            num_bytes += min(spec.max_tokens, texts.num_tokens) * (per_row + 16)
            num_bytes += min(spec.kernel_samples, texts.num_texts) ** 2 * 4
    return num_bytes
