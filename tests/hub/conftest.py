"""A series of checkpoints as public repositories publish them, on the loopback hub."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

from hub import connection

REPOSITORY = "allenai/OLMoE-1B-7B-0924"
SMALL = {
    "config.json": json.dumps({"model_type": "olmoe", "hidden_size": 8}).encode(),
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"model_max_length": 4096}',
}
OTHERS = {
    "README.md": b"# A model",
    "modeling_olmoe.py": b"raise SystemExit('remote code')",
    "pytorch_model.bin": b"pickle",
}


def tensors(seed, num_bytes):
    values = np.random.default_rng(seed).integers(0, 255, num_bytes, dtype=np.uint8)
    return save({"weight": values})


def checkpoint(seed=0, num_bytes=200_000, **files):
    """Files of a revision with one file of weights."""
    return {**SMALL, **OTHERS, "model.safetensors": tensors(seed, num_bytes), **files}


def sharded(seed=0, num_bytes=100_000, num_shards=3):
    """Files of a revision with its weights in several shards."""
    names = [f"model-{i + 1:05d}-of-{num_shards:05d}.safetensors" for i in range(num_shards)]
    shards = {name: tensors((seed, i), num_bytes) for i, name in enumerate(names)}
    index = json.dumps({"weight_map": {f"w{i}": name for i, name in enumerate(names)}})
    return {**SMALL, **shards, "model.safetensors.index.json": index.encode()}


@pytest.fixture
def publish(hub, root):
    """Commit a checkpoint to a branch of the repository: its sha."""

    def publish(branch, files=None, repository=REPOSITORY, **settings):
        files = checkpoint(**settings) if files is None else files
        return hub.add_revision("model", repository, branch, files)

    return publish


@pytest.fixture
def impatient(monkeypatch):
    """The same waiting, in less time."""
    monkeypatch.setattr(connection, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 2.5)
    monkeypatch.setattr(connection, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=id))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)


@pytest.fixture
def start():
    """Start a Python process with some lines of code; ended with the test."""
    started = []

    def start(code, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
