"""How large is what a study reads: samples, models and downloads, before any of it is here."""

import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.flops import OLMOE_1B_7B, ModelShape, Texts
from store.artifacts import Artifact, Checkpoint
from studies.sources import CorpusSamples, FileSamples, HubSamples
from studies.spec import Study
from tasks.checkpoints import TOKENS_PER_SAMPLE
from tasks.downloads import PINNED
from tasks.plan import Planned

if TYPE_CHECKING:
    from hub.repositories import RevisionFiles

BYTES_PER_TOKEN = 4
"""Of text that was not tokenized yet."""
NANO_SAMPLES, NANO_WORDS = 500, 234
"""Of the nano corpus: per domain and split, roughly, and in its vocabulary."""
SHIPPED = {f"allenai/OLMoE-1B-7B-{month}": OLMOE_1B_7B for month in ("0924", "0125")}
"""Published models whose shape is known without a hub; their weights are bfloat16."""
SHIPPED_STEPS = range(5000, 1_225_000, 5000)
"""Of their 244 revisions."""

Samples = dict[tuple[str, str], Texts]
"""By domain and split."""


class Sizes:
    """Sizes of what one study reads; notes, by what they are about, and obstacles gather here."""

    def __init__(self, study: Study) -> None:
        self.notes: dict[str, dict[str, None]] = defaultdict(dict)
        self.obstacles: dict[str, None] = {}
        self._virtual_experts = study.routing.virtual_experts
        self._sources = {series.name: series.source for series in study.series}
        self._shapes: dict[str, ModelShape | None] = {}
        self._samples: dict[Path | int, Samples | None] = {}
        self._revisions: dict[str, RevisionFiles | None] = {}
        self._downloaded: set[str] = set()

    def note(self, text: str, about: str) -> None:
        """Note what an estimate rests on, or why there is none, once for everything it is about."""
        self.notes[text][about] = None

    def samples(self, given: Artifact | Planned) -> Samples | None:
        """Probes or instructions: counted where they were collected, else estimated."""
        key = given.path if isinstance(given, Artifact) else id(given)
        if key not in self._samples:
            self._samples[key] = (
                _collected(given) if isinstance(given, Artifact) else self._expected(given.inputs)
            )
        return self._samples[key]

    def _expected(self, inputs: dict[str, Any]) -> Samples | None:
        sources = inputs["samples"]
        if not isinstance(sources, dict):  # instructions of one domain
            sources = {"": {"": sources}}
        found: Samples = {}
        for domain, splits in sources.items():
            for split, source in splits.items():
                texts = self._source_texts(source, inputs["max_length"])
                if texts is None:
                    return None
                found[domain, split] = texts
        return found

    def _source_texts(self, source: CorpusSamples | FileSamples, max_length: int) -> Texts | None:
        """As many tokens as the limit admits, or as the files hold where that is less."""
        if isinstance(source, CorpusSamples):
            return Texts(NANO_SAMPLES, NANO_SAMPLES * TOKENS_PER_SAMPLE)
        bounds = [] if source.limit is None else [source.limit * max_length]
        if not isinstance(source, HubSamples):
            self._check(source)
            files = source.path.rglob("*") if source.path.is_dir() else [source.path]
            num_bytes = sum(file.stat().st_size for file in files if file.is_file())
            bounds.append(num_bytes // BYTES_PER_TOKEN)
        elif not bounds:
            self.note("tokens not known, as it has no limit", source.repository)
            return None
        return Texts(math.ceil(min(bounds) / max_length), min(bounds))

    def _check(self, source: Any) -> None:
        """Whether the first sample of a file can be read."""
        from models.samples import chosen_texts

        try:
            if source.unusable == "refuse":
                next(chosen_texts(source.model_copy(update={"seed": None}), {}, 10_000, {}), None)
        except (ValueError, OSError) as error:
            self.obstacles[str(error)] = None

    def shape(self, series: str, checkpoint: Checkpoint | None) -> ModelShape | None:
        """Shape of a series' models, the same at every checkpoint; None where it is not known."""
        if series not in self._shapes:
            try:
                self._shapes[series] = self._find_shape(self._sources[series], checkpoint)
            except (ValueError, OSError) as error:
                self._shapes[series] = None
                self.obstacles[f"series {series}: {str(error).splitlines()[0]}"] = None
        return self._shapes[series]

    def _find_shape(self, source: Any, checkpoint: Checkpoint | None) -> ModelShape | None:
        if checkpoint is None or source.kind == "nano":
            from models.shape import nano_shape

            return nano_shape(source.pretraining.model, NANO_WORDS, self._virtual_experts)
        folder = checkpoint.path
        if checkpoint.repository and not (folder / "config.json").is_file():
            if shipped := SHIPPED.get(checkpoint.repository):
                text = "sizes are of the configuration that ships with grokpath, not of the hub"
                self.note(text, checkpoint.repository)
                return shipped
            files = self._revision(checkpoint)
            if files is None:
                return None
            from hub.cache import snapshot

            folder = snapshot(files.repository, files.commit)
        from models.shape import model_shape

        return model_shape(folder, self._virtual_experts)

    def _revision(self, checkpoint: Checkpoint) -> "RevisionFiles | None":
        """Files of a checkpoint; until it is resolved, those of the first of its repository."""
        from hub.repositories import RevisionFiles, resolve

        if checkpoint.pinned is not None and checkpoint.pinned.path.is_dir():
            text = (checkpoint.pinned.path / PINNED).read_text(encoding="utf-8")
            return RevisionFiles.model_validate_json(text)
        repository = str(checkpoint.repository)
        if repository not in self._revisions:
            self._revisions[repository] = None
            try:
                self._revisions[repository] = resolve(repository, checkpoint.revision)
            except ValueError as error:
                text = f"operations and downloads not known: {str(error).splitlines()[0]}"
                self.note(text, repository)
        return self._revisions[repository]

    def download(self, checkpoint: Checkpoint) -> float | None:
        """Bytes of a checkpoint's files that are not here, counted with the first reader."""
        name = f"{checkpoint.repository} {checkpoint.revision}"
        if name in self._downloaded:
            return 0
        self._downloaded.add(name)
        if checkpoint.pinned is None and checkpoint.repository in SHIPPED:
            return 2 * SHIPPED[checkpoint.repository].num_parameters
        files = self._revision(checkpoint)
        if files is None or checkpoint.pinned is None:
            return None if files is None else files.num_bytes
        missing = {
            file.digest: file.size
            for file in files.files
            if file.digest not in self._downloaded and not (checkpoint.path / file.name).exists()
        }
        self._downloaded |= missing.keys()
        return sum(missing.values())


def _collected(artifact: Artifact) -> Samples:
    """Texts of a probe set, or of instructions."""
    table = pq.read_table(artifact.path / f"{artifact.step_name}.parquet")
    places = [name for name in ("domain", "split") if name in table.column_names]
    lengths = pc.list_value_length(table["token_ids"]).cast("int64")
    groups = table.select(places).append_column("length", lengths).group_by(places)
    return {
        (row.get("domain", ""), row.get("split", "probe")): Texts(
            row["length_count"], row["length_sum"] or 0
        )
        for row in groups.aggregate([("length", "count"), ("length", "sum")]).to_pylist()
    }
