"""How things are measured: one frozen part per step of a study.

A step is handed only its own part, so a change to one repeats only what depends on it. `Runtime`
says where and how fast, never what: it stands outside every identity.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from studies.base import AutoOrPositive, AutoOrWhole, Frozen, Seed, Share, unique


class RoutingSpec(Frozen):
    """Extraction of routing weights and losses."""

    max_length: int = Field(default=2048, ge=2, description="Tokens per sample; longer are cut.")
    dtype: Literal["float32", "bfloat16"] = "float32"
    tokens: Literal["all", "inputs"] = Field(
        default="all",
        description="Whose routing is averaged: all tokens of a sample (the paper), or all but the "
        "last, for models that were never fed the last one in training.",
    )
    max_tokens: int = Field(
        default=4096,
        ge=1,
        description="Tokens per domain whose own routing is stored, for the measures of tokens; a "
        "seeded sample of the probe set's when there are more.",
    )
    kernel_samples: int = Field(
        default=256,
        ge=2,
        description="Probe samples per domain in the experts' tangent kernel; a seeded sample.",
    )
    virtual_experts: int = Field(
        default=8,
        ge=2,
        description="Blocks of neurons per layer that count as experts of a dense model.",
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


class ContaminationSpec(Frozen):
    """Which benchmark documents may have been in the training data (arXiv 2506.21551, App. B.1)."""

    removed_share: float = Field(
        default=0.10,
        ge=0.0,
        lt=1.0,
        description="Share of each benchmark's documents marked, highest Min-K%++ first; 0 marks "
        "and scores none.",
    )
    exclude: bool = Field(
        default=True,
        description="Whether marked documents are left out of accuracy and groups, or only listed. "
        "Leave them in where the score would select on being right: short answers, or documents "
        "that cannot have been in the training data.",
    )
    lowest_share: Share = Field(
        default=0.20, description="k of Min-K%++: share of a document's least likely tokens."
    )
    tokens: Literal["all", "target"] = Field(
        default="all",
        description="Which tokens of a document are scored: all of its text (as published), or the "
        "answer's alone, for models that were trained on answers only.",
    )


class PairingSpec(Frozen):
    """Which training group goes with which benchmark group (arXiv 2506.21551, App. B.1)."""

    embedder: Literal["tfidf", "sentence-transformers"] = Field(
        default="tfidf", description="tfidf needs no model; the paper used sentence-transformers."
    )
    model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        description="Repository or folder of the sentence-transformers model.",
    )
    min_group_size: int = Field(default=5, ge=1, description="Smaller groups are not paired.")


class SensitivitySpec(Frozen):
    """What the monitors' relation to accuracy is tried under, beside the study's own settings."""

    thresholds: tuple[Share, ...] = Field(
        default=(0.5, 0.6, 0.7, 0.8), min_length=1, description="Pathway thresholds, tau."
    )
    epsilons: tuple[float, ...] = Field(
        default=(1.5, 1.6, 1.7, 1.8, 1.9, 2.0), description="With delta 0.05; the paper's range."
    )
    deltas: tuple[float, ...] = Field(
        default=(0.03, 0.04, 0.05), description="With epsilon 2.0; the paper's range."
    )
    max_pairs: int = Field(
        default=4000, ge=100, description="Pairs sampled per mean, the same for every setting."
    )
    seed: Seed = Field(default=0, description="Seed of the pair sample; a second sample has + 1.")

    @field_validator("epsilons", "deltas")
    @classmethod
    def _above_zero(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(value <= 0 for value in values):
            raise ValueError("expected numbers above 0")
        return values


class TuningSpec(Frozen):
    """Instruction tuning by LoRA before a checkpoint is scored (arXiv 2506.21551, App. B)."""

    targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj"),
        min_length=1,
        description="Linear layers that get an adapter, by the last part of their name.",
    )
    rank: int = Field(default=32, ge=1)
    alpha: int | None = Field(
        default=None,
        ge=1,
        description="Scale of the adapter is alpha / rank; twice the rank when left out (the paper "
        "does not say).",
    )
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    learning_rate: float = Field(default=5e-5, gt=0.0)
    warmup_share: float = Field(
        default=0.03,
        ge=0.0,
        lt=1.0,
        description="Share of the steps in which the learning rate rises; then it falls linearly.",
    )
    batch_size: int = Field(default=4, ge=1, description="Samples per optimizer step.")
    max_length: int = Field(
        default=2048, ge=2, description="Tokens of instruction and answer; longer are cut."
    )
    epochs: int = Field(default=3, ge=1)
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Of the frozen weights; the adapter is float32."
    )
    seed: Seed = 0


class AblationSpec(Frozen):
    """Under what else every checkpoint is tuned and scored, to see whether the relations stay."""

    tuning_ranks: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="LoRA ranks beside the study's own; 0 scores without tuning."
    )

    @field_validator("tuning_ranks")
    @classmethod
    def _distinct(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        unique("rank", [str(rank) for rank in ranks])
        return ranks


class EvaluationSpec(Frozen):
    """How lm-eval is run on a checkpoint."""

    num_fewshot: int | None = Field(
        default=None, ge=0, description="Examples before each document; the task's own by default."
    )
    tasks_folder: Path | None = Field(
        default=None,
        description="Folder with lm-eval task files of your own; relative paths start at the "
        "study file. The nano series have their own.",
    )
    limit: int | None = Field(default=None, ge=1, description="First so many documents per task.")
    max_generated: int | None = Field(
        default=None,
        ge=1,
        description="Tokens that a benchmark may generate per document, where it allows more.",
    )
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: Seed = 1234


class AnalysisSpec(Frozen):
    """Monitors against accuracy, and the generalization bound."""

    moving_average_window: int = Field(default=3, ge=1, description="In checkpoints.")
    num_permutations: int = Field(default=9999, ge=99)
    num_bootstrap: int = Field(default=2000, ge=100)
    seed: Seed = 0
    significance: Share = Field(default=0.05, description="Level of the verdict.")


class OnlineSpec(Frozen):
    """What a monitor says while training runs, from the checkpoints up to then alone."""

    min_checkpoints: int = Field(default=4, ge=3, description="Checkpoints before the first call.")
    window: int = Field(default=3, ge=2, description="Last checkpoints that a call looks at.")
    plateau_tolerance: float = Field(
        default=0.05, gt=0.0, description="Loss counts as flat within this many nats per token."
    )


class BoundSpec(Frozen):
    """Terms of the excess-risk bound (arXiv 2506.21551, sec. 4.4)."""

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
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto: every CUDA card there is, one step at a time on each; else the CPU.",
    )
    batch_size: AutoOrWhole = Field(
        default=512, description="Samples per forward pass; auto finds what fits into memory."
    )
    disk_budget: ByteSize = Field(
        default=ByteSize(100 * 10**9),
        gt=0,
        description="Bytes of downloaded weights on disk at once, such as 60GB.",
    )
