"""A study is one typed YAML file; this module is its grammar.

Every model is frozen and rejects unknown keys. A part of the study is handed only to the task
that needs it, so a change to one part repeats only what depends on that part. `Runtime` says where
and how fast, never what: it stands outside every identity. :mod:`studies.load` reads the files.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from studies.base import Frozen, Slug, StudyName, unique
from studies.frozen_router import FrozenRouterSpec
from studies.settings import (
    AblationSpec,
    AnalysisSpec,
    BoundSpec,
    ContaminationSpec,
    EvaluationSpec,
    GeneralizationSpec,
    MemorizationSpec,
    OnlineSpec,
    PairingSpec,
    PathwaysSpec,
    RoutingSpec,
    Runtime,
    SensitivitySpec,
    TuningSpec,
)
from studies.sources import CheckpointSource, NanoSource, ReadSource, SampleSource

# ---------------------------------------------------------------- series and domains


class Series(Frozen):
    """A sequence of checkpoints of one training run, measured over the study's domains."""

    name: Slug
    role: Literal["main", "control", "variant"] = Field(
        default="main",
        description="A control says what the monitors do where nothing generalizes; a variant "
        "(another recipe, shape or seed) says whether what holds in the main series holds there.",
    )
    title: str = ""
    control_for: Slug | None = Field(
        default=None,
        description="Of a control: the series it is the control of; every main series when left "
        "out.",
    )
    variant: Slug = Field(
        default="base",
        description="Recipe of the series; series of one variant differ by their seed alone.",
    )
    source: CheckpointSource
    probes: dict[str, ReadSource] = Field(
        default={},
        description="Training samples of this series by domain, where they are not the domain's: a "
        "control that was trained on other data is measured on those.",
    )


class Benchmark(Frozen):
    """One lm-eval task and the metric that is read from it as accuracy."""

    name: str = Field(min_length=1, description="Name of the lm-eval task.")
    file: Path | None = Field(
        default=None,
        description="Task file of your own with that name; relative paths start at the study file.",
    )
    metric: str = Field(default="acc", min_length=1, description="Per-document 0/1 metric.")
    num_fewshot: int | None = Field(
        default=None, ge=0, description="Examples before each document, for this benchmark alone."
    )
    limit: int | None = Field(
        default=None, ge=1, description="First so many documents, for this benchmark alone."
    )


class Domain(Frozen):
    """One subject: the samples that are measured and the benchmarks that are scored."""

    name: Slug
    title: str = ""
    probes: SampleSource = Field(description="Training samples whose routing is measured.")
    validation: SampleSource | None = Field(
        default=None, description="Held-out samples, for the validation loss."
    )
    tuning: ReadSource | None = Field(
        default=None,
        description="Instructions and answers that a checkpoint is tuned on before it is scored; "
        "answer_field is needed. Without them, or without `tuning` in the study, it is scored as "
        "it is.",
    )
    benchmarks: tuple[Benchmark, ...] = Field(
        default=(), description="The first is the domain's accuracy; the others stand beside it."
    )

    @field_validator("tuning")
    @classmethod
    def _has_answers(cls, tuning: ReadSource | None) -> ReadSource | None:
        if tuning is not None and tuning.answer_field is None:
            raise ValueError("tuning needs answer_field: the loss is taken on the answer alone")
        return tuning

    @field_validator("benchmarks")
    @classmethod
    def _named_once(cls, benchmarks: tuple[Benchmark, ...]) -> tuple[Benchmark, ...]:
        unique("benchmark", [benchmark.name for benchmark in benchmarks])
        return benchmarks


class Study(Frozen):
    """The study: series of checkpoints, domains, and how they are measured."""

    name: StudyName
    title: str = ""
    description: str = ""
    series: tuple[Series, ...] = Field(min_length=1)
    domains: tuple[Domain, ...] = Field(min_length=1)
    routing: RoutingSpec = RoutingSpec()
    pathways: PathwaysSpec = PathwaysSpec()
    memorization: MemorizationSpec = MemorizationSpec()
    generalization: GeneralizationSpec = GeneralizationSpec()
    contamination: ContaminationSpec = ContaminationSpec()
    pairing: PairingSpec = PairingSpec()
    sensitivity: SensitivitySpec | None = Field(
        default=SensitivitySpec(), description="null leaves it out; it costs distances anew."
    )
    tuning: TuningSpec | None = Field(
        default=None,
        description="Instruction tuning before the benchmarks; null scores checkpoints as they are "
        "(zero-shot).",
    )
    ablation: AblationSpec = AblationSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    analysis: AnalysisSpec = AnalysisSpec()
    bound: BoundSpec = BoundSpec()
    online: OnlineSpec = OnlineSpec()
    frozen_router: FrozenRouterSpec | None = Field(
        default=None, description="The experiment of App. C.4 beside the study; null leaves it out."
    )
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        unique("series", [series.name for series in self.series])
        unique("domain", [domain.name for domain in self.domains])
        if not any(series.role == "main" for series in self.series):
            raise ValueError("no series has role 'main'; the study needs one to judge")
        self._check_controls()
        self._check_tuning()
        nano = all(series.source.kind == "nano" for series in self.series)
        for domain in self.domains:
            uses_corpus = "corpus" in {
                domain.probes.kind,
                domain.validation.kind if domain.validation else "",
            }
            if uses_corpus and not nano:
                raise ValueError(
                    f"domain {domain.name!r} takes samples from the nano corpus, but a series has "
                    "another source; give it samples of kind jsonl, parquet, text or hub"
                )
        for series in self.series:
            strange = sorted(set(series.probes) - {domain.name for domain in self.domains})
            if strange:
                raise ValueError(
                    f"series {series.name!r} has probes for {', '.join(strange)}, which the study "
                    "has no domain for"
                )
            if series.source.kind == "nano":
                if series.probes:
                    raise ValueError(
                        f"series {series.name!r} is a nano series, whose probes are its corpus; "
                        "leave `probes` out"
                    )
                self._check_nano_domains(series.source)
        return self

    def _check_controls(self) -> None:
        roles = {series.name: series.role for series in self.series}
        for series in self.series:
            if series.control_for is None:
                continue
            if series.role != "control":
                raise ValueError(
                    f"series {series.name!r} has control_for, but its role is {series.role!r}; "
                    "only a control is the control of another series"
                )
            if roles.get(series.control_for, "control") == "control":
                others = sorted(name for name, role in roles.items() if role != "control")
                raise ValueError(
                    f"series {series.name!r} is the control for {series.control_for!r}, expected "
                    f"one of {', '.join(others)}"
                )

    def _check_tuning(self) -> None:
        ranks = self.ablation.tuning_ranks
        if self.tuning is None:
            if ranks:
                raise ValueError(
                    f"ablation.tuning_ranks is {list(ranks)}, but the study has no `tuning` whose "
                    "rank could be changed"
                )
            return
        if self.tuning.rank in ranks:
            raise ValueError(
                f"ablation.tuning_ranks names {self.tuning.rank}, which is the study's own rank; "
                "leave it out"
            )
        nano = [series.name for series in self.series if series.source.kind == "nano"]
        if nano:
            raise ValueError(
                f"series {', '.join(nano)} is a nano series, whose model knows no instructions; "
                "leave `tuning` out"
            )
        if not any(domain.tuning for domain in self.domains):
            raise ValueError(
                "the study has `tuning`, but no domain has instructions to tune on; give a domain "
                "`tuning` samples, or set the study's to null"
            )

    def _check_nano_domains(self, source: NanoSource) -> None:
        known = sorted(source.pretraining.domain_shares)
        for domain in self.domains:
            if domain.probes.kind == "corpus" and domain.name not in known:
                raise ValueError(
                    f"domain {domain.name!r} is not in the nano corpus; it has {', '.join(known)}"
                )
