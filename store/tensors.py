"""Routing tensors on disk: npz files per domain of a checkpoint, written at once or not at all."""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# N samples, L MoE layers, K experts per layer, D hidden size


@dataclass(frozen=True)
class RoutingTensors:
    """What one checkpoint did with the samples of one domain and split."""

    sample_ids_N: NDArray[np.int64]
    routing_weights_NLK: NDArray[np.float32]
    """Mean over the sample's real tokens of the softmax over all experts; rows sum to 1."""
    losses_N: NDArray[np.float64]
    """Mean negative log-likelihood, nats per counted token."""
    num_tokens_N: NDArray[np.int32]
    num_counted_N: NDArray[np.int32]


@dataclass(frozen=True)
class SampleLosses:
    """The losses among :class:`RoutingTensors`; of a file's bytes a thousandth at real size."""

    sample_ids_N: NDArray[np.int64]
    losses_N: NDArray[np.float64]


@dataclass(frozen=True)
class TokenRouting:
    """Routing of single tokens of a domain's probe samples; the same at every checkpoint."""

    sample_ids_T: NDArray[np.int64]
    positions_T: NDArray[np.int32]
    token_ids_T: NDArray[np.int32]
    routing_weights_TLK: NDArray[np.float32]
    """Softmax over all experts; rows sum to 1."""


@dataclass(frozen=True)
class TangentKernel:
    """The routing kernel with the experts' own tangent kernels, on a sample of a domain."""

    sample_ids_N: NDArray[np.int64]
    kernel_NN: NDArray[np.float32]
    """Symmetric, mean over layers, divided by `scale`, so that its mean diagonal is 1."""
    scale: NDArray[np.float64]
    """0-dimensional: the mean diagonal before."""


def save_routing(tensors: RoutingTensors, path: Path) -> None:
    """Write the tensors under a temporary name and rename: a file that is there is complete."""
    _save(tensors, path)


def load_routing(path: Path) -> RoutingTensors:
    """Read what :func:`save_routing` wrote; pickled content is refused."""
    return RoutingTensors(**_arrays(path, RoutingTensors))


def load_losses(path: Path) -> SampleLosses:
    """Read the losses of what :func:`save_routing` wrote, and not the routing beside them."""
    return SampleLosses(**_arrays(path, SampleLosses))


def save_tokens(tensors: TokenRouting, path: Path) -> None:
    """As :func:`save_routing`."""
    _save(tensors, path)


def load_tokens(path: Path) -> TokenRouting:
    """Read what :func:`save_tokens` wrote."""
    return TokenRouting(**_arrays(path, TokenRouting))


def save_kernel(tensors: TangentKernel, path: Path) -> None:
    """As :func:`save_routing`."""
    _save(tensors, path)


def load_kernel(path: Path) -> TangentKernel:
    """Read what :func:`save_kernel` wrote."""
    return TangentKernel(**_arrays(path, TangentKernel))


def _save(tensors: RoutingTensors | TokenRouting | TangentKernel, path: Path) -> None:
    arrays = {field.name: getattr(tensors, field.name) for field in fields(tensors)}
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _arrays(path: Path, kind: type) -> dict[str, NDArray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {field.name: arrays[field.name] for field in fields(kind)}
