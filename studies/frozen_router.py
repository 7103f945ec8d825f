"""The experiment of arXiv 2506.21551, App. C.4: a one-layer MoE whose router never learns."""

from typing import Self

from pydantic import Field, model_validator

from studies.base import Frozen, Seed, Share


class FrozenRouterSpec(Frozen):
    """One-layer mixtures of ReLU experts with frozen random routers, one per seed.

    The defaults are the paper's where it gives them: 16 experts, 100-dimensional inputs in Gaussian
    clusters, 200 samples. What it leaves open is chosen here and named in docs/frozen_router.md.
    """

    num_routers: int = Field(default=60, ge=4, description="Router seeds.")
    num_experts: int = Field(default=16, ge=2)
    num_dimensions: int = Field(default=100, ge=2, description="Dimensions of an input.")
    num_clusters: int = Field(default=4, ge=2, description="Gaussian clusters of the inputs.")
    cluster_spread: float = Field(
        default=1.0, gt=0.0, description="Standard deviation inside a cluster; centres have 1."
    )
    num_samples: int = Field(default=200, ge=8, description="Training and validation together.")
    validation_share: Share = Field(default=0.5, lt=1.0)
    expert_width: int = Field(default=16, ge=1, description="Hidden ReLU units of an expert.")
    router_scale: float = Field(
        default=4.0, gt=0.0, description="Largest standard deviation of router logits."
    )
    threshold: Share = Field(default=0.7, description="Cumulative routing weight, tau.")
    num_steps: int = Field(default=200, ge=1, description="Full-batch training steps.")
    learning_rate: float = Field(default=1e-2, gt=0.0)
    ridge: float = Field(default=1.0, gt=0.0, description="lambda of the effective dimension.")
    seed: Seed = Field(default=0, description="Seed of the data; router r has seed + 2 + r.")

    @model_validator(mode="after")
    def _both_splits(self) -> Self:
        num_validation = round(self.validation_share * self.num_samples)
        if not 2 <= num_validation <= self.num_samples - 2:
            raise ValueError(
                f"validation_share {self.validation_share} of {self.num_samples} samples leaves a "
                "split with fewer than 2; change one of them"
            )
        return self
