"""The embedded nano model as it stands in a study: corpus, shape, training."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from studies.base import Frozen, Seed, Share, strictly_rising

CORPUS_DOMAINS = ("math", "code", "commonsense", "chemistry")
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class CorpusSpec(Frozen):
    """The generated corpus of the nano model: four domains of four-token prompts and one answer.

    The defaults are the recipe of the embedded study. One seed drives tables and splits. Benchmarks
    are four-way choices, so every domain needs four answers.
    """

    seed: Seed = Field(default=0, description="Seed of the tables and the splits.")
    modulus: int = Field(default=31, ge=4, le=97, description="math: c = (a + b) mod modulus.")
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
    num_ions: int = Field(default=28, ge=3, description="chemistry: cations, and as many anions.")
    max_valence: int = Field(
        default=6, ge=3, le=9, description="chemistry: hidden valences 1..max."
    )
    chemistry_train_share: Share = 0.18
    validation_share: Share = Field(
        default=0.25,
        description="Share of the held-out samples left for the validation loss; the rest are "
        "the benchmark, so the two never share a sample.",
    )

    @model_validator(mode="after")
    def _enough_facts(self) -> Self:
        num_facts = min(self.num_entities, self.num_entity_classes) * self.num_relations
        if num_facts < 4:
            raise ValueError(
                f"domain 'commonsense' has {num_facts} facts (entity classes times relations), "
                "but its benchmark needs 4 answers; raise num_relations or num_entity_classes"
            )
        return self

    @model_validator(mode="after")
    def _every_split_has_samples(self) -> Self:
        for domain, strata in self._strata().items():
            share = getattr(self, f"{domain}_train_share")
            num = sum(units * size for units, size in strata)
            train = sum(round(share * units) * size for units, size in strata)
            validation = round(self.validation_share * (num - train))
            splits = {
                "train": train,
                "validation": validation,
                "benchmark": num - train - validation,
            }
            empty = [split for split, count in splits.items() if count == 0]
            if empty:
                raise ValueError(
                    f"domain {domain!r} has no {empty[0]} sample among its {num}; change "
                    f"{domain}_train_share or validation_share so that every split gets one"
                )
        return self

    def _strata(self) -> dict[str, list[tuple[int, int]]]:
        """By domain: units that are split together, and samples in each (models.nano.corpus)."""
        p = self.modulus
        return {
            "math": [(p, 1), (p * (p - 1) // 2, 2)],  # a + b and b + a stay together
            "code": [(self.num_operators * self.num_variables**2, 1)],
            "commonsense": [(self.num_relations * self.num_entities, 1)],
            "chemistry": [(self.num_ions**2, 1)],
        }


class NanoModelSpec(Frozen):
    """Shape of the nano OLMoE (transformers' OlmoeForCausalLM), or of its dense twin."""

    dense: bool = Field(
        default=False,
        description="A dense twin (Qwen3ForCausalLM): each layer's experts become one MLP of "
        "top_k * intermediate_size neurons, as many as a token uses in the mixture.",
    )
    hidden_size: int = Field(default=64, ge=8)
    num_layers: int = Field(default=4, ge=2, description="Consistency compares two.")
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
        if self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"hidden_size / num_heads is {self.hidden_size // self.num_heads}; rotary position "
                "embeddings need an even head size"
            )
        return self


class PretrainingSpec(Frozen):
    """How the nano model is trained: AdamW, warm-up, constant, linear decay at the end.

    Router weight decay is 0 because routing stays near uniform otherwise; this was chosen after
    seeing that the distance curves are clearer with it (docs/nano.md).
    """

    seed: Seed = Field(default=0, description="Seed of initialization and sample order.")
    num_steps: int = Field(default=2400, ge=1, description="Optimizer steps.")
    batch_size: int = Field(default=320, ge=4, description="Samples per step.")
    learning_rate: float = Field(default=2e-3, gt=0.0)
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    warmup_steps: int = Field(default=50, ge=0)
    decay_share: float = Field(
        default=0.2, ge=0.0, le=1.0, description="Last share of the steps, decaying linearly."
    )
    final_learning_rate_share: float = Field(default=0.1, ge=0.0, le=1.0)
    weight_decay: float = Field(default=5.0, ge=0.0, description="Matrices of attention, experts.")
    embedding_weight_decay: float = Field(default=1.0, ge=0.0, description="Embeddings and head.")
    router_weight_decay: float = Field(default=0.0, ge=0.0)
    entropy_penalty: float = Field(
        default=0.0,
        description="Weight of the mean routing entropy (nats) in the loss: above 0 sharpens the "
        "router, below 0 flattens it.",
    )
    dropped_experts: int = Field(
        default=0,
        ge=0,
        description="Experts per layer whose weights are set to zero for good from drop_step on; "
        "the router may still choose them.",
    )
    drop_step: int = Field(default=0, ge=0, description="Step after which they are dropped.")
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
        min_length=2,
        description="Steps at which a checkpoint is written (0 = the initialization).",
    )
    model: NanoModelSpec = NanoModelSpec()

    @field_validator("domain_shares")
    @classmethod
    def _shares_sum_to_one(cls, shares: dict[str, float]) -> dict[str, float]:
        if not shares or any(share <= 0 for share in shares.values()):
            raise ValueError("every domain needs a share above 0")
        unknown = [domain for domain in shares if domain not in CORPUS_DOMAINS]
        if unknown:
            raise ValueError(
                f"{', '.join(map(repr, unknown))} is not in the nano corpus; it has "
                f"{', '.join(sorted(CORPUS_DOMAINS))}"
            )
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

    @model_validator(mode="after")
    def _interventions_fit(self) -> Self:
        if self.model.dense and (self.entropy_penalty or self.dropped_experts):
            raise ValueError(
                "a dense model has no router: leave out entropy_penalty and dropped_experts"
            )
        if self.dropped_experts >= self.model.num_experts:
            raise ValueError(
                f"dropped_experts is {self.dropped_experts}, but only fewer than all "
                f"{self.model.num_experts} experts of a layer can be dropped"
            )
        if self.dropped_experts and self.drop_step >= self.num_steps:
            raise ValueError(
                f"drop_step {self.drop_step} is not before the last step, {self.num_steps}"
            )
        return self

    @model_validator(mode="after")
    def _batch_has_room(self) -> Self:
        samples_per_domain(self.domain_shares, self.batch_size)
        return self


def samples_per_domain(domain_shares: dict[str, float], batch_size: int) -> dict[str, int]:
    """Samples of each domain in a batch; the largest remainders get what rounding leaves.

    Raises
    ------
    ValueError
        When a domain gets no sample.

    Examples
    --------
    >>> samples_per_domain({"code": 0.3, "math": 0.7}, batch_size=5)
    {'math': 4, 'code': 1}
    """
    # In the corpus's order: how a study file orders its shares must not change the training.
    domains = [domain for domain in CORPUS_DOMAINS if domain in domain_shares]
    exact = {domain: domain_shares[domain] * batch_size for domain in domains}
    counts = {domain: int(share + 1e-9) for domain, share in exact.items()}
    by_remainder = sorted(domains, key=lambda domain: counts[domain] - exact[domain])
    for domain in by_remainder[: batch_size - sum(counts.values())]:
        counts[domain] += 1
    empty = [domain for domain, count in counts.items() if count == 0]
    if empty:
        raise ValueError(
            f"a batch of {batch_size} has no room for a sample of {', '.join(empty)}; raise "
            "batch_size or the domain's share"
        )
    return counts
