"""How long earlier runs of a step took on models of the same size, scaled to the work at hand."""

import json
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from store import artifacts
from store.identity import canonical
from tasks.costs.texts import TOKENS_PER_SAMPLE, instruction_texts, probe_texts
from tasks.plan import Planned

Record = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Seconds that a run should take, judged by records of the same device."""

    seconds: float
    device: str


class Timing:
    """Looks runs up in the records of all artifacts below the root."""

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = {}

    def measured(
        self, entry: Planned, num_parameters: int | None, tokens: float | None
    ) -> Measured | None:
        """Mean over earlier runs of the step on models of the size; None when there was none.

        Where tokens are known of a run, its seconds are scaled to those of the run at hand.
        """
        alike = [
            record
            for record in self._of(entry.step_name)
            if self._is_alike(record, entry, num_parameters)
        ]
        on_gpu = [record for record in alike if record["device"].startswith("cuda")]
        alike = on_gpu or alike
        if not alike:
            return None
        seconds = 0.0
        for record in alike:
            then = self._tokens(record)
            scale = tokens / then if tokens and then else 1.0
            seconds += scale * float(record["seconds"])
        return Measured(seconds / len(alike), "cuda" if on_gpu else "cpu")

    def scaled(
        self, entry: Planned, num_parameters: int | None, tokens: float | None
    ) -> float | None:
        """Median over earlier runs of the step on any model, scaled; None when there was none.

        Seconds grow with parameters, and with tokens where they are known of both runs.
        """
        found = []
        for record in self._of(entry.step_name):
            reader = record["inputs"].get("checkpoint") or record["inputs"].get("last")
            size = self._sizes.get(reader["checkpoint"]) if reader else None
            if size and num_parameters and not record["device"].startswith("cuda"):
                then = self._tokens(record)
                scale = tokens / then if tokens and then else 1.0
                found.append(scale * num_parameters / size * float(record["seconds"]))
        return median(found) if found else None

    def num_parameters(self, digest: str | None) -> int | None:
        """Parameters of a checkpoint, as the routing step wrote them down; None before that."""
        return self._sizes.get(digest or "")

    def any_routing(self) -> bool:
        """Whether the size of any checkpoint was ever written down."""
        return bool(self._sizes)

    def _of(self, step_name: str) -> list[Record]:
        if step_name not in self._records:
            folder = artifacts.artifacts_root() / step_name
            found = [
                json.loads((place / artifacts.RECORD).read_text(encoding="utf-8"))
                for place in sorted(folder.glob("v*-*"))
                if artifacts.FOLDER.match(place.name) and (place / artifacts.RECORD).is_file()
            ]
            self._records[step_name] = found
        return self._records[step_name]

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {
            record["inputs"]["checkpoint"]["checkpoint"]: record["summary"]["model"][
                "num_parameters"
            ]
            for record in self._of("routing")
        }

    def _is_alike(self, record: Record, entry: Planned, num_parameters: int | None) -> bool:
        if entry.step_name == "pretraining":
            wanted = canonical(entry.inputs["pretraining"].model)
            return bool(record["inputs"]["pretraining"]["model"] == wanted)
        reader = record["inputs"].get("checkpoint") or record["inputs"].get("last")
        if num_parameters is None or reader is None:
            return False
        return self._sizes.get(reader["checkpoint"]) == num_parameters

    def _tokens(self, record: Record) -> float | None:
        inputs = record["inputs"]
        if record["step_name"] == "pretraining":
            spec = inputs["pretraining"]
            return float(spec["num_steps"] * spec["batch_size"] * TOKENS_PER_SAMPLE)
        if record["step_name"] == "routing":
            probes = self._made("probes", inputs["probes"]["digest"])
            readings = probe_texts(probes).values() if probes else []
            return float(sum(reading.texts.num_tokens for reading in readings if reading))
        if record["step_name"] == "tuning":
            made = self._made("instructions", inputs["instructions"]["digest"])
            reading = instruction_texts(made) if made else None
            return reading.texts.num_tokens * float(inputs["tuning"]["epochs"]) if reading else None
        return None

    def _made(self, step_name: str, digest: str) -> artifacts.Artifact | None:
        for record in self._of(step_name):
            if record["digest"] == digest:
                return artifacts.Artifact(**{n: record[n] for n in artifacts.Artifact.model_fields})
        return None
