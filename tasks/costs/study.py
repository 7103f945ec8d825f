"""What a study would take, step by step, before any of it runs.

Tokens are counted where samples were collected, else at most what the study's limits allow.
Operations follow from them and the model's shape (:mod:`models.flops`). Time is that of earlier
runs where there are any on models of the same size, else operations through a share of a GPU's
published peak (:mod:`tasks.costs.gpus`). What is assumed is said in notes.
"""

from dataclasses import dataclass, field

from store.artifacts import Checkpoint
from studies.spec import Study
from tasks.costs.amounts import Amount, Known, total
from tasks.costs.distinct import distinct
from tasks.costs.gpus import REFERENCE, UTILISATION, Gpu, gpu_named
from tasks.costs.texts import unreadable
from tasks.costs.timing import Timing
from tasks.costs.weights import Revisions, Weights
from tasks.costs.work import Estimates, Work
from tasks.devices import cards
from tasks.plan import Plan, Planned

READERS = ("routing", "tuning", "benchmarks", "contamination")
"""Steps that read a checkpoint's weights."""


@dataclass(frozen=True)
class Cost:
    """What all runs of a step would take; None where nothing is known or there is no such thing.

    Attributes
    ----------
    step_name, num_runs, num_reused
        Which step, its runs in all, and those that are there.
    tokens, flops
        Through a model, and the operations for it.
    gpu_seconds, cpu_seconds
        One GPU's time, or one worker's.
    download, disk
        Bytes that come from a hub, and bytes of artifacts that stay.
    """

    step_name: str
    num_runs: int
    num_reused: int
    tokens: Amount | None = None
    flops: Amount | None = None
    gpu_seconds: Amount | None = None
    cpu_seconds: Amount | None = None
    download: Amount | None = None
    disk: Amount | None = None


AMOUNTS = ("tokens", "flops", "gpu_seconds", "cpu_seconds", "download", "disk")


@dataclass(frozen=True)
class Costs:
    """Costs of a study in the order of its steps, and what they rest on."""

    steps: list[Cost]
    weights: Amount | None
    """Bytes of downloaded weights on disk at once."""
    notes: list[str]
    obstacles: list[str] = field(default_factory=list)
    """What would stop the run, a line each."""

    def altogether(self) -> Cost:
        """Sum over steps."""
        return Cost(
            "together",
            sum(step.num_runs for step in self.steps),
            sum(step.num_reused for step in self.steps),
            **{name: total(getattr(step, name) for step in self.steps) for name in AMOUNTS},
        )


@dataclass(frozen=True)
class _Run:
    """One run that is to be made."""

    entry: Planned
    work: Work
    seconds: Amount | None
    on_gpu: bool
    download: Amount | None


def study_costs(
    study: Study, plan: Plan, gpu: str | None = None, revisions: Revisions | None = None
) -> Costs:
    """Cost of everything in a plan that is to be run.

    Parameters
    ----------
    study, plan
        The study, and what :func:`flows.study.plan_study` found of it.
    gpu
        Kind of GPU that times are told for. When None, the paper's where this machine has a card;
        without one, times are those of earlier steps here. Nano models are for processors: of them
        only measured times are told.
    revisions
        What is known of checkpoints on a hub; the hub is asked when None.
    """
    waiting = distinct(entry for entry in plan.entries if entry.artifact is None)
    notes: list[str] = []
    revisions = revisions or Revisions()
    weights = _weights(waiting, revisions, notes)
    estimates = Estimates(study, plan, revisions)
    named = gpu or (REFERENCE if cards() else None)
    pricing = _Pricing(study, estimates, gpu_named(named) if named else None, weights)
    runs = [pricing.price(entry) for entry in waiting]
    return Costs(
        steps=[
            _cost(name, *counts, [run for run in runs if run.entry.step_name == name])
            for name, counts in plan.counts().items()
        ],
        weights=weights.peak(int(study.runtime.disk_budget)) if weights else None,
        notes=[*estimates.notes, *pricing.notes(), *notes],
        obstacles=_obstacles(waiting, estimates),
    )


def _obstacles(waiting: list[Planned], estimates: Estimates) -> list[str]:
    """Models that no family reads, and samples that cannot be read, of what is to be run."""
    for entry in waiting:
        if (checkpoint := _checkpoint(entry)) is not None:
            estimates.shapes.of(checkpoint)
    refused = estimates.shapes.refused
    found = [f"series {series}: {reason}" for series, reason in refused.items()]
    sources = [
        source
        for entry in waiting
        if entry.step_name == "probes"
        for splits in entry.inputs["samples"].values()
        for source in splits.values()
    ]
    sources += [e.inputs["samples"] for e in waiting if e.step_name == "instructions"]
    found += [problem for source in sources if (problem := unreadable(source)) is not None]
    return list(dict.fromkeys(found))


def _cost(name: str, num_runs: int, num_reused: int, runs: list[_Run]) -> Cost:
    if num_runs == num_reused:
        return Cost(name, num_runs, num_reused, **dict.fromkeys(AMOUNTS, Amount(0)))
    return Cost(
        name,
        num_runs,
        num_reused,
        tokens=total(run.work.tokens for run in runs),
        flops=total(run.work.flops for run in runs),
        gpu_seconds=total(run.seconds for run in runs if run.on_gpu),
        cpu_seconds=total(run.seconds for run in runs if not run.on_gpu),
        download=total(run.download for run in runs),
        disk=total(run.work.num_bytes for run in runs),
    )


class _Pricing:
    """Puts together what one run takes."""

    def __init__(
        self, study: Study, estimates: Estimates, gpu: Gpu | None, weights: Weights | None
    ) -> None:
        self.estimates, self.timing = estimates, Timing()
        self._gpu, self._weights = gpu, weights
        self._kinds = {series.name: series.source.kind for series in study.series}
        self._device = study.runtime.device
        self._brought: set[tuple[str | None, str]] = set()
        self._measured: dict[str, None] = {}
        self._estimated: dict[str, None] = {}
        self._scaled: dict[str, None] = {}
        self._unknown: dict[str, None] = {}

    def price(self, entry: Planned) -> _Run:
        """Everything about one run."""
        work = self.estimates.work(entry)
        seconds, on_gpu = self._time(entry, work)
        return _Run(entry, work, seconds, on_gpu, self._download(entry))

    def notes(self) -> list[str]:
        """What the times rest on."""
        notes = []
        if self._estimated and self._gpu is not None:
            notes.append(
                f"GPU time of {', '.join(self._estimated)}: one {self._gpu.name} at "
                f"{UTILISATION:.0%} of its published dense peak; several cards share it"
            )
        if self._measured:
            notes.append(
                f"time of {', '.join(self._measured)}: as earlier runs on models of the same size "
                "took here, one at a time"
            )
        if self._scaled:
            notes.append(
                f"time of {', '.join(self._scaled)}: as earlier runs on other models took here, "
                "scaled by parameters and tokens; right to the order of magnitude"
            )
        if self._unknown:
            notes.append(
                f"time of {', '.join(self._unknown)} is not known: there is no card here and no "
                "earlier run; --gpu KIND tells hours of one"
            )
        return notes

    def _time(self, entry: Planned, work: Work) -> tuple[Amount | None, bool]:
        checkpoint = _checkpoint(entry)
        nano = checkpoint is None or self._kinds[checkpoint.series] == "nano"
        size = self._num_parameters(checkpoint)
        tokens = work.tokens.value if work.tokens is not None else None
        measured = self.timing.measured(entry, size, tokens)
        may_use_gpu = not nano and self._device != "cpu" and work.flops is not None
        if measured is not None and (measured.device == "cuda" or not may_use_gpu):
            self._measured[entry.step_name] = None
            return Amount(measured.seconds, Known.about), measured.device == "cuda"
        if not may_use_gpu or work.flops is None or not work.flops.value:
            return None, False
        if self._gpu is not None:
            self._estimated[entry.step_name] = None
            on_gpu = self._gpu.seconds(work.flops.value, work.dtype)
            return Amount(on_gpu, max(work.flops.known, Known.about)), True
        scaled = self.timing.scaled(entry, size, tokens)
        (self._unknown if scaled is None else self._scaled)[entry.step_name] = None
        return (None if scaled is None else Amount(scaled, Known.about)), False

    def _num_parameters(self, checkpoint: Checkpoint | None) -> int | None:
        if checkpoint is None:
            return None
        known = self.timing.num_parameters(checkpoint.digest)
        if known is not None or not self.timing.any_routing():
            return known
        shape = self.estimates.shapes.of(checkpoint)
        return shape.num_parameters if shape is not None else None

    def _download(self, entry: Planned) -> Amount | None:
        """Bytes of the checkpoint's weights, counted with the first step that reads them."""
        checkpoint = _checkpoint(entry)
        if self._weights is None or checkpoint is None or not _reads_weights(entry):
            return None
        if checkpoint.repository is None:
            return None
        key = checkpoint.repository, checkpoint.revision
        if key in self._brought:
            return Amount(0)
        self._brought.add(key)
        return self._weights.download(checkpoint)


def _weights(waiting: list[Planned], revisions: Revisions, notes: list[str]) -> Weights | None:
    """What is to be downloaded; None, and a note, when a hub cannot be asked."""
    needed: dict[str, Checkpoint] = {}
    for entry in waiting:
        checkpoint = _checkpoint(entry)
        if checkpoint is not None and checkpoint.repository and _reads_weights(entry):
            needed[f"{checkpoint.repository} {checkpoint.revision}"] = checkpoint
    try:
        weights = Weights(list(needed.values()), revisions)
    except ValueError as error:
        notes.append(f"downloads are left out: {error}")
        return None
    if needed:
        notes.append("data sets and benchmarks on a hub are streamed and not counted as download")
    return weights


def _checkpoint(entry: Planned) -> Checkpoint | None:
    found = entry.inputs.get("checkpoint") or entry.inputs.get("last")
    return found if isinstance(found, Checkpoint) else None


def _reads_weights(entry: Planned) -> bool:
    if entry.step_name == "contamination":
        return bool(entry.inputs["contamination"].removed_share)
    return entry.step_name in READERS
