"""One-layer mixtures of ReLU experts with frozen routers, all routers trained side by side.

Source: arXiv 2506.21551, App. C.4. Shapes: R routers, S samples, D input dimensions, K experts,
M hidden units of an expert.
"""

from dataclasses import dataclass

import numpy as np
import torch

from studies.frozen_router import FrozenRouterSpec

TEACHER_NOISE = 0.1


@dataclass(frozen=True)
class FrozenRouters:
    """Results of R routers."""

    routing_weights_RSK: np.ndarray
    """Softmax of each router's logits on the training samples; rows sum to 1."""
    tangent_kernel_RSS: np.ndarray
    """Routing kernel with the experts' tangent kernel at initialization, unscaled."""
    training_loss_R: np.ndarray
    validation_loss_R: np.ndarray
    """Mean squared error at the end."""


def train_frozen_routers(spec: FrozenRouterSpec, scales_R: np.ndarray) -> FrozenRouters:
    """Train the experts behind each of R frozen routers on the same data, from the same weights.

    Inputs are Gaussian clusters, scaled to length about 1; the target is a linear function of its
    own for each cluster, squashed, plus noise. Only the routers differ, so what differs in the
    outcome is theirs. `scales_R` are the standard deviations of the router logits.
    """
    data, experts = (torch.Generator().manual_seed(spec.seed + i) for i in (0, 1))
    inputs_SD, targets_S = _data(spec, data)
    num_training = spec.num_samples - round(spec.validation_share * spec.num_samples)
    routers_RKD = torch.stack(
        [
            scale
            * torch.randn(
                spec.num_experts,
                spec.num_dimensions,
                generator=torch.Generator().manual_seed(spec.seed + 2 + r),
            )
            for r, scale in enumerate(scales_R.tolist())
        ]
    )
    gates_RSK = torch.einsum("sd,rkd->rsk", inputs_SD, routers_RKD).softmax(dim=-1)
    shape = len(scales_R), spec.num_experts, spec.expert_width
    hidden_KMD = torch.randn(*shape[1:], spec.num_dimensions, generator=experts)
    out_KM = torch.randn(*shape[1:], generator=experts)
    training = slice(0, num_training)
    kernels = _tangent(inputs_SD[training], gates_RSK[:, training], hidden_KMD, out_KM)
    hidden = hidden_KMD.expand(shape[0], -1, -1, -1).clone().requires_grad_()
    out = out_KM.expand(shape[0], -1, -1).clone().requires_grad_()
    optimizer = torch.optim.Adam([hidden, out], lr=spec.learning_rate)
    for _ in range(spec.num_steps):
        error_RS = _forward(inputs_SD[training], gates_RSK[:, training], hidden, out)
        loss_R = (error_RS - targets_S[training]).square().mean(dim=1)
        optimizer.zero_grad(set_to_none=True)
        loss_R.sum().backward()  # routers share no weight, so each follows its own gradient
        optimizer.step()
    with torch.no_grad():
        errors_RS = (_forward(inputs_SD, gates_RSK, hidden, out) - targets_S).square()
    return FrozenRouters(
        gates_RSK[:, training].numpy(),
        kernels.numpy(),
        errors_RS[:, training].mean(dim=1).numpy(),
        errors_RS[:, num_training:].mean(dim=1).numpy(),
    )


def _data(spec: FrozenRouterSpec, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    centres_CD = torch.randn(spec.num_clusters, spec.num_dimensions, generator=rng)
    cluster_S = torch.arange(spec.num_samples) % spec.num_clusters
    spread_SD = torch.randn(spec.num_samples, spec.num_dimensions, generator=rng)
    inputs_SD = centres_CD[cluster_S] + spec.cluster_spread * spread_SD
    inputs_SD = inputs_SD / inputs_SD.norm(dim=1).mean()
    teachers_CD = torch.randn(spec.num_clusters, spec.num_dimensions, generator=rng)
    clean_S = torch.tanh(2 * (inputs_SD * teachers_CD[cluster_S]).sum(dim=1))
    order = torch.randperm(spec.num_samples, generator=rng)
    noise_S = TEACHER_NOISE * torch.randn(spec.num_samples, generator=rng)
    return inputs_SD[order], (clean_S + noise_S)[order]


def _forward(
    inputs_SD: torch.Tensor,
    gates_RSK: torch.Tensor,
    hidden_RKMD: torch.Tensor,
    out_RKM: torch.Tensor,
) -> torch.Tensor:
    width = hidden_RKMD.shape[2]
    flat_RFD = hidden_RKMD.flatten(1, 2)
    units_RSF = (inputs_SD @ flat_RFD.transpose(1, 2)).relu()
    units_RSKM = units_RSF.unflatten(-1, hidden_RKMD.shape[1:3])
    experts_RSK = (units_RSKM * out_RKM[:, None]).sum(dim=-1) / width**0.5
    return (gates_RSK * experts_RSK).sum(dim=-1)


def _tangent(
    inputs_SD: torch.Tensor, gates_RSK: torch.Tensor, hidden_KMD: torch.Tensor, out_KM: torch.Tensor
) -> torch.Tensor:
    """sum_k g_k g_k' K_k with the gradient kernels of relu(W x) a / sqrt(M)."""
    width = out_KM.shape[1]
    pre_KSM = torch.einsum("sd,kmd->ksm", inputs_SD, hidden_KMD)
    units_KSM, on_KSM = pre_KSM.relu(), (pre_KSM > 0).float() * out_KM[:, None]
    inner_SS = inputs_SD @ inputs_SD.T
    expert_KSS = units_KSM @ units_KSM.transpose(1, 2)
    expert_KSS = (expert_KSS + inner_SS * (on_KSM @ on_KSM.transpose(1, 2))) / width
    return torch.stack(
        [
            torch.einsum("sk,tk,kst->st", gates_SK, gates_SK, expert_KSS).double()
            for gates_SK in gates_RSK
        ]
    )
