"""The shapes of a study's models, before any of them is trained or downloaded."""

from collections.abc import Callable, Sequence

from models.flops import ModelShape
from store.artifacts import Artifact, Checkpoint
from studies.nano_model import CorpusSpec, PretrainingSpec
from studies.spec import Study
from tasks.costs.texts import corpus_size
from tasks.costs.weights import Revisions
from tasks.plan import Planned


class Shapes:
    """Finds the shape of each series' models, the same at every checkpoint.

    Parameters
    ----------
    study
        Whose series they are.
    corpora
        The plan's nano corpora, made or not; how many words a nano model knows depends on them.
    revisions
        Where configurations on a hub are found.
    note
        Told why a shape cannot be had.

    Attributes
    ----------
    refused
        Why models of a series cannot be measured at all, by series.
    """

    def __init__(
        self,
        study: Study,
        corpora: Sequence[Planned],
        revisions: Revisions,
        note: Callable[[str], None],
    ) -> None:
        self._series = {series.name: series for series in study.series}
        self._virtual_experts = study.routing.virtual_experts
        self._corpora, self._revisions, self._note = corpora, revisions, note
        self._found: dict[str, ModelShape | None] = {}
        self.refused: dict[str, str] = {}

    def of(self, checkpoint: Checkpoint) -> ModelShape | None:
        """Shape of the models of a checkpoint's series; None, and a note, when it cannot be had."""
        if checkpoint.series not in self._found:
            self._found[checkpoint.series] = self._find(checkpoint)
        return self._found[checkpoint.series]

    def of_nano(self, pretraining: PretrainingSpec, corpus: Artifact | Planned) -> ModelShape:
        """Shape of a nano model that would be trained on a corpus."""
        from models.shape import nano_shape

        num_words = corpus_size(corpus).num_words
        return nano_shape(pretraining.model, num_words, self._virtual_experts)

    def _find(self, checkpoint: Checkpoint) -> ModelShape | None:
        source = self._series[checkpoint.series].source
        if source.kind == "nano":
            return self.of_nano(source.pretraining, self._corpus(source.corpus))
        from models.shape import model_shape

        try:
            folder = self._revisions.config_folder(checkpoint)
        except (ValueError, OSError) as error:  # a plan says what it can without the hub
            reason = str(error).partition("\n")[0]
            self._note(f"operations of series {checkpoint.series} are left out: {reason}")
            return None
        try:
            return model_shape(folder, self._virtual_experts)
        except (ValueError, OSError) as error:
            self.refused[checkpoint.series] = str(error).partition("\n")[0]
            return None

    def _corpus(self, spec: CorpusSpec) -> Artifact | Planned:
        made = next(entry for entry in self._corpora if entry.inputs["corpus"] == spec)
        return made.artifact or made
