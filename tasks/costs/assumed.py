"""What is assumed of a published model when no hub is asked: for reckoning ahead, offline."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.artifacts import Checkpoint
from tasks.costs.weights import Revisions

if TYPE_CHECKING:
    from hub.repositories import RevisionFiles

OLMOE_1B_7B: dict[str, Any] = {
    "model_type": "olmoe",
    "hidden_size": 2048,
    "intermediate_size": 1024,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "vocab_size": 50304,
}
"""Shape of OLMoE-1B-7B (arXiv 2409.02060, tab. 1)."""
BYTES_PER_PARAMETER = 2
"""The revisions are published in bfloat16."""


class AssumedRevisions(Revisions):
    """Every revision has this configuration, and weights of so many bytes per parameter."""

    def __init__(self, config: dict[str, Any], bytes_per_parameter: int) -> None:
        super().__init__()
        self._config, self._bytes_per_parameter = config, bytes_per_parameter

    def files(self, checkpoint: Checkpoint) -> "RevisionFiles":
        """One file of weights, of the assumed size."""
        from hub.cache import HubFile
        from hub.repositories import RevisionFiles
        from models.shape import model_shape

        size = model_shape(self.config_folder(checkpoint)).num_parameters
        size *= self._bytes_per_parameter
        none = "0" * 40
        weights = HubFile(name="model.safetensors", size=size, sha256=None, git_sha1=none)
        return RevisionFiles(
            repository=str(checkpoint.repository),
            revision=checkpoint.revision,
            commit=none,
            step=checkpoint.step,
            tokens_seen=checkpoint.tokens_seen,
            model_type=self._config["model_type"],
            remote_code=False,
            files=(weights,),
        )

    def config_folder(self, checkpoint: Checkpoint) -> Path:
        """A folder with the configuration."""
        return _written(json.dumps(self._config))


@cache
def _written(config: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="grokpath-config-"))
    (folder / "config.json").write_text(config, encoding="utf-8")
    return folder
