"""The embedded nano model as it stands in a study: corpus, shape, training."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from studies.base import Frozen, Share, strictly_rising


class CorpusSpec(Frozen):
    """The generated corpus of the nano model: four domains of four-token prompts and one answer.

    The defaults are the recipe of the embedded study. One seed drives tables and splits.
    """

    seed: int = Field(default=0, ge=0, description="Seed of the tables and the splits.")
    modulus: int = Field(default=31, ge=3, le=97, description="math: c = (a + b) mod modulus.")
    math_train_share: Share = Field(default=0.75, description="Share of unordered pairs trained.")
    num_variables: int = Field(default=20, ge=2, description="code: number of variables.")
    num_variable_types: int = Field(default=6, ge=2, description="code: hidden types.")
    num_operators: int = Field(default=4, ge=1, description="code: operators.")
    num_result_types: int = Field(default=8, ge=4, description="code: result types (answers).")
    code_train_share: Share = 0.25
    num_entities: int = Field(default=60, ge=2, description="commonsense: entities.")
    num_entity_classes: int = Field(default=6, ge=2, description="commonsense: hidden classes.")
    num_relations: int = Field(default=12, ge=1, description="commonsense: relations.")
    num_values: int = Field(default=10, ge=4, description="commonsense: values (answers).")
    commonsense_train_share: Share = 0.40
    num_ions: int = Field(default=28, ge=2, description="chemistry: cations, and as many anions.")
    max_valence: int = Field(
        default=6, ge=2, le=9, description="chemistry: hidden valences 1..max."
    )
    chemistry_train_share: Share = 0.18
    validation_share: Share = Field(
        default=0.25,
        description="Share of the held-out samples kept for the validation loss; the rest are "
        "the benchmark, so the two never share a sample.",
    )


class NanoModelSpec(Frozen):
    """Shape of the nano OLMoE (transformers' OlmoeForCausalLM)."""

    hidden_size: int = Field(default=64, ge=8)
    num_layers: int = Field(default=4, ge=1)
    num_heads: int = Field(default=4, ge=1)
    num_experts: int = Field(default=8, ge=2)
    top_k: int = Field(default=2, ge=1, description="Experts executed per token.")
    intermediate_size: int = Field(default=64, ge=8)
    balancing_coefficient: float = Field(
        default=0.01, ge=0.0, description="Weight of the load-balancing loss."
    )
    initializer_range: float = Field(default=0.05, gt=0.0)

    @model_validator(mode="after")
    def _shape_holds(self) -> Self:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k is {self.top_k}, but there are {self.num_experts} experts")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        return self


class PretrainingSpec(Frozen):
    """How the nano model is trained: AdamW, warm-up, constant, linear decay at the end.

    Router weight decay is 0 because routing stays near uniform otherwise; this was chosen after
    seeing that the distance curves are clearer with it (docs/nano.md).
    """

    seed: int = Field(default=0, ge=0, description="Seed of initialization and sample order.")
    num_steps: int = Field(default=2400, ge=1, description="Optimizer steps.")
    batch_size: int = Field(default=320, ge=4, description="Samples per step.")
    learning_rate: float = Field(default=2e-3, gt=0.0)
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = Field(default=50, ge=0)
    decay_share: float = Field(
        default=0.2, ge=0.0, le=1.0, description="Last share of the steps, decaying linearly."
    )
    final_learning_rate_share: float = Field(default=0.1, ge=0.0, le=1.0)
    weight_decay: float = Field(default=5.0, ge=0.0, description="Matrices of attention, experts.")
    embedding_weight_decay: float = Field(default=1.0, ge=0.0, description="Embeddings and head.")
    router_weight_decay: float = Field(default=0.0, ge=0.0)
    domain_shares: dict[str, float] = Field(
        default={"math": 0.4, "code": 0.2, "commonsense": 0.2, "chemistry": 0.2},
        description="Share of each batch drawn from each domain; sums to 1.",
    )
    checkpoint_steps: tuple[int, ...] = Field(
        default=(
            *range(0, 101, 25),
            *range(150, 1001, 50),
            *range(1100, 2001, 100),
            2200,
            2400,
        ),
        min_length=1,
        description="Steps at which a checkpoint is written (0 = the initialization).",
    )
    model: NanoModelSpec = NanoModelSpec()

    @field_validator("domain_shares")
    @classmethod
    def _shares_sum_to_one(cls, shares: dict[str, float]) -> dict[str, float]:
        if not shares or any(share <= 0 for share in shares.values()):
            raise ValueError("every domain needs a share above 0")
        if abs(sum(shares.values()) - 1.0) > 1e-9:
            raise ValueError(f"shares sum to {sum(shares.values()):g}, they must sum to 1")
        return shares

    @field_validator("checkpoint_steps")
    @classmethod
    def _steps_rise(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        return strictly_rising(steps)

    @model_validator(mode="after")
    def _steps_exist(self) -> Self:
        if self.checkpoint_steps[-1] > self.num_steps:
            raise ValueError(
                f"checkpoint step {self.checkpoint_steps[-1]} lies beyond num_steps "
                f"{self.num_steps}"
            )
        return self
