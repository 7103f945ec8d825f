"""A study is one typed YAML file; this module is its grammar.

Every model is frozen and rejects unknown keys. A part of the study is handed only to the task
that needs it, so a change to one part repeats only what depends on that part. `Runtime` says where
and how fast, never what: it stands outside every identity. :mod:`studies.load` reads the files.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from studies.base import (
    AutoOrPositive,
    Frozen,
    Seed,
    Share,
    Slug,
    StudyName,
    strictly_rising,
    unique,
)
from studies.nano_model import CorpusSpec, PretrainingSpec

# ---------------------------------------------------------------- series and domains


class NanoSource(Frozen):
    """Checkpoints of the nano model, pretrained on the spot."""

    kind: Literal["nano"] = "nano"
    corpus: CorpusSpec = CorpusSpec()
    pretraining: PretrainingSpec = PretrainingSpec()
    shuffle_answers: bool = Field(
        default=False,
        description="Shuffle the training answers inside each domain: the control in which "
        "nothing can generalize.",
    )


class LocalSource(Frozen):
    """A folder of checkpoints in Hugging Face format, as a training run writes them.

    Each checkpoint is a subfolder named `step<N>` or `step<N>-tokens<M>[K|M|B|T]` holding
    config.json, *.safetensors and the tokenizer files.
    """

    kind: Literal["local"] = "local"
    path: Path = Field(description="The folder; relative paths start at the study file.")
    steps: tuple[int, ...] | None = Field(
        default=None, min_length=2, description="Which steps to take; all when left out."
    )

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, steps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if steps is None else strictly_rising(steps)


class CorpusSamples(Frozen):
    """Samples of the nano corpus (only for series with `kind: nano`)."""

    kind: Literal["corpus"] = "corpus"


class JsonlSamples(Frozen):
    """Samples from a JSON-lines file, one object per line."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path = Field(description="The file; relative paths start at the study file.")
    text_field: str = Field(default="text", min_length=1)
    answer_field: str | None = Field(
        default=None,
        description="Text appended after the text field; when given, only its tokens count in "
        "the loss.",
    )
    limit: int | None = Field(default=None, ge=1, description="First so many samples.")


class Series(Frozen):
    """A sequence of checkpoints of one training run, measured over the study's domains."""

    name: Slug
    role: Literal["main", "control"] = Field(
        default="main", description="A control says what the monitors do where nothing generalizes."
    )
    title: str = ""
    source: Annotated[NanoSource | LocalSource, Field(discriminator="kind")]
    probes: dict[str, JsonlSamples] = Field(
        default={},
        description="Training samples of this series by domain, where they are not the domain's: a "
        "control that was trained on other data is measured on those.",
    )


SampleSource = Annotated[CorpusSamples | JsonlSamples, Field(discriminator="kind")]


class Benchmark(Frozen):
    """One lm-eval task and the metric that is read from it as accuracy."""

    name: str = Field(min_length=1, description="Name of the lm-eval task.")
    metric: str = Field(default="acc", min_length=1, description="Per-document 0/1 metric.")


class Domain(Frozen):
    """One subject: the samples that are measured and the benchmarks that are scored."""

    name: Slug
    title: str = ""
    probes: SampleSource = Field(description="Training samples whose routing is measured.")
    validation: SampleSource | None = Field(
        default=None, description="Held-out samples, for the validation loss."
    )
    benchmarks: tuple[Benchmark, ...] = Field(
        default=(), description="The first is the domain's accuracy; the others are kept beside it."
    )

    @field_validator("benchmarks")
    @classmethod
    def _named_once(cls, benchmarks: tuple[Benchmark, ...]) -> tuple[Benchmark, ...]:
        unique("benchmark", [benchmark.name for benchmark in benchmarks])
        return benchmarks


# ---------------------------------------------------------------- what is measured, and how


class RoutingSpec(Frozen):
    """Extraction of routing weights and losses."""

    max_length: int = Field(default=2048, ge=2, description="Tokens per sample; longer are cut.")
    dtype: Literal["float32", "bfloat16"] = "float32"
    tokens: Literal["all", "inputs"] = Field(
        default="all",
        description="Whose routing is averaged: all tokens of a sample (the paper), or all but the "
        "last, for models that were never fed the last one in training.",
    )


class PathwaysSpec(Frozen):
    """Pathways and their distance (arXiv 2506.21551, sec. 4.1)."""

    threshold: Share = Field(default=0.7, description="Cumulative routing weight, tau.")
    max_pairs: int | None = Field(
        default=None, ge=2, description="Pairs sampled per mean; all pairs when left out."
    )
    seed: Seed = Field(default=0, description="Seed of the pair sample.")


class MemorizationSpec(Frozen):
    """When a sample counts as memorized (arXiv 2506.21551, sec. 3.1 and App. B.1)."""

    delta: float = Field(default=0.05, gt=0.0, description="Allowed distance to the final loss.")
    epsilon: AutoOrPositive = Field(
        default="auto", description="Loss threshold; auto scans per domain."
    )
    share_low: Share = 0.20
    share_high: Share = 0.25
    min_group_size: int = Field(default=5, ge=2, description="Smaller groups are not measured.")

    @model_validator(mode="after")
    def _shares_ordered(self) -> Self:
        if self.share_low > self.share_high:
            raise ValueError(f"share_low {self.share_low} is above share_high {self.share_high}")
        return self


class GeneralizationSpec(Frozen):
    """When a benchmark document counts as generalized (arXiv 2506.21551, App. B.1)."""

    min_mean: float = Field(
        default=0.8, ge=0.0, lt=1.0, description="Mean correctness that must be exceeded."
    )
    max_errors: int = Field(default=1, ge=0)


class EvaluationSpec(Frozen):
    """How lm-eval is run on a checkpoint."""

    num_fewshot: int | None = Field(
        default=None, ge=0, description="Examples before each document; the task's own by default."
    )
    tasks_folder: Path | None = Field(
        default=None,
        description="Folder with lm-eval task files of your own; relative paths start at the "
        "study file. The nano series bring theirs.",
    )
    limit: int | None = Field(default=None, ge=1, description="First so many documents per task.")
    seed: Seed = 1234


class AnalysisSpec(Frozen):
    """Monitors against accuracy, and the generalization bound."""

    moving_average_window: int = Field(default=3, ge=1, description="In checkpoints.")
    num_permutations: int = Field(default=9999, ge=99)
    num_bootstrap: int = Field(default=2000, ge=100)
    seed: Seed = 0
    significance: Share = Field(default=0.05, description="Level of the verdict.")


class BoundSpec(Frozen):
    """Terms of the excess-risk bound (arXiv 2506.21551, sec. 4.4), gating kernel."""

    ridge: float = Field(default=1.0, gt=0.0, description="lambda.")
    noise_variance: float = Field(default=1.0, gt=0.0, description="sigma squared.")
    confidence: float = Field(
        default=0.05, gt=0.0, lt=1.0, description="delta: the bound fails with this chance."
    )


class Runtime(Frozen):
    """Where and how fast; never part of an identity."""

    workers: int = Field(
        default=2, ge=1, le=256, description="Processes that train, extract and score side by side."
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = Field(default=512, ge=1, description="Samples per forward pass.")


class Study(Frozen):
    """The whole question: series of checkpoints, domains, and how they are measured."""

    name: StudyName
    title: str = ""
    description: str = ""
    series: tuple[Series, ...] = Field(min_length=1)
    domains: tuple[Domain, ...] = Field(min_length=1)
    routing: RoutingSpec = RoutingSpec()
    pathways: PathwaysSpec = PathwaysSpec()
    memorization: MemorizationSpec = MemorizationSpec()
    generalization: GeneralizationSpec = GeneralizationSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    analysis: AnalysisSpec = AnalysisSpec()
    bound: BoundSpec = BoundSpec()
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        unique("series", [series.name for series in self.series])
        unique("domain", [domain.name for domain in self.domains])
        if not any(series.role == "main" for series in self.series):
            raise ValueError("no series has role 'main'; the study needs one to judge")
        nano = all(series.source.kind == "nano" for series in self.series)
        for domain in self.domains:
            uses_corpus = "corpus" in {
                domain.probes.kind,
                domain.validation.kind if domain.validation else "",
            }
            if uses_corpus and not nano:
                raise ValueError(
                    f"domain {domain.name!r} takes samples from the nano corpus, but a series has "
                    "another source; give it `kind: jsonl` samples"
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

    def _check_nano_domains(self, source: NanoSource) -> None:
        known = sorted(source.pretraining.domain_shares)
        for domain in self.domains:
            if domain.probes.kind == "corpus" and domain.name not in known:
                raise ValueError(
                    f"domain {domain.name!r} is not in the nano corpus; it has {', '.join(known)}"
                )
