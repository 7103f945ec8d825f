"""Routing tensors on disk: one npz per domain of a checkpoint, written whole or not at all."""

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


def save_routing(tensors: RoutingTensors, path: Path) -> None:
    """Write the tensors under a temporary name and rename: a file that is there is whole."""
    arrays = {field.name: getattr(tensors, field.name) for field in fields(tensors)}
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def load_routing(path: Path) -> RoutingTensors:
    """Read what :func:`save_routing` wrote; pickled content is refused."""
    with np.load(path, allow_pickle=False) as arrays:
        return RoutingTensors(
            **{field.name: arrays[field.name] for field in fields(RoutingTensors)}
        )
