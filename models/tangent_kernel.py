"""The experts' empirical tangent kernel at real hidden states, and the routing kernel of them.

Shape suffixes: S samples, L MoE layers, K experts, D hidden size, I neurons of an expert.
"""

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from models.families.base import ExpertWeights, Family


@torch.inference_mode()
def tangent_kernel(
    model: PreTrainedModel, family: Family, routing_weights_SLK: np.ndarray, hidden_SLD: np.ndarray
) -> np.ndarray | None:
    """Routing kernel Theta(x, x') = mean_l sum_k g_lk(x) g_lk(x') K_lk(x, x') [S, S], float64.

    K_lk is the empirical neural tangent kernel of expert k of layer l: the inner product of the
    gradients of its output with respect to its own weights, summed over output dimensions and
    divided by their number. A sample's hidden state is the mean of the block's input over its
    tokens, as its routing weights are means (arXiv 2506.21551, sec. 4.4 and App. C, leave the
    point of evaluation open).

    Parameters
    ----------
    model, family
        As :func:`models.loading.load_checkpoint` returns them.
    routing_weights_SLK
        Routing weights; rows over K sum to 1.
    hidden_SLD
        Mean block inputs of the same samples.

    Returns
    -------
    array of shape (S, S) or None
        Symmetric and positive semi-definite; None where the family's experts are not gated MLPs.
    """
    layers = family.moe_layers(model)
    total_SS = torch.zeros(len(hidden_SLD), len(hidden_SLD), dtype=torch.float64)
    for number, layer in enumerate(layers):
        weights = family.expert_weights(layer)
        if weights is None:
            return None
        hidden_SD = torch.from_numpy(hidden_SLD[:, number]).to(weights.down_KDI)
        gates_SK = torch.from_numpy(routing_weights_SLK[:, number]).double()
        for expert, kernel_SS in enumerate(expert_kernels(weights, hidden_SD)):
            shared_SS = torch.outer(gates_SK[:, expert], gates_SK[:, expert])
            total_SS += shared_SS * kernel_SS.double().cpu()
    kernel: np.ndarray = (total_SS / len(layers)).numpy()
    return kernel


def expert_kernels(weights: ExpertWeights, hidden_SD: torch.Tensor) -> list[torch.Tensor]:
    """Tangent kernel [S, S] of each gated expert, in closed form.

    With s = silu(gate x), u = up x and c_i the squared length of column i of `down`, the gradients
    with respect to down, up and gate give D (su)(su)' + (x.x') [(s sqrt c)(s sqrt c)' +
    (silu' u sqrt c)(silu' u sqrt c)'], divided by the D output dimensions.
    """
    inputs_SS = hidden_SD @ hidden_SD.T
    kernels = []
    for gate_ID, up_ID, down_DI in zip(
        weights.gate_KID, weights.up_KID, weights.down_KDI, strict=True
    ):
        gate_SI, up_SI = hidden_SD @ gate_ID.T, hidden_SD @ up_ID.T
        silu_SI, sigmoid_SI = functional.silu(gate_SI), torch.sigmoid(gate_SI)
        slope_SI = sigmoid_SI * (1 + gate_SI * (1 - sigmoid_SI))
        length_I = down_DI.square().sum(dim=0).sqrt()
        neurons_SI, by_up_SI = silu_SI * up_SI, silu_SI * length_I
        by_gate_SI = slope_SI * up_SI * length_I
        inner_SS = inputs_SS * (by_up_SI @ by_up_SI.T + by_gate_SI @ by_gate_SI.T)
        kernels.append(neurons_SI @ neurons_SI.T + inner_SS / len(down_DI))
    return kernels
