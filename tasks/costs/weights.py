"""What of a hub's weights a study would download, and where the models' configurations are."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from store.artifacts import Checkpoint
from tasks.costs.amounts import Amount, Known
from tasks.downloads import PINNED

if TYPE_CHECKING:
    from hub.repositories import RevisionFiles

ANSWER_SECONDS = 20.0
"""How long a plan waits for a hub; a run is more patient."""


class Revisions:
    """Files of hub checkpoints, each asked for once."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], RevisionFiles | ValueError] = {}

    def files(self, checkpoint: Checkpoint) -> "RevisionFiles":
        """Files that a checkpoint is pinned to, or else those its branch has now.

        Raises
        ------
        ValueError
            When the hub cannot be asked.
        """
        from hub.repositories import RevisionFiles

        if checkpoint.pinned is not None and checkpoint.pinned.path.is_dir():
            text = (checkpoint.pinned.path / PINNED).read_text(encoding="utf-8")
            return RevisionFiles.model_validate_json(text)
        key = str(checkpoint.repository), checkpoint.revision
        if key not in self._asked:
            self._asked[key] = _ask(*key)
        found = self._asked[key]
        if isinstance(found, ValueError):
            raise found
        return found

    def config_folder(self, checkpoint: Checkpoint) -> Path:
        """Folder with a checkpoint's config.json; from a hub it is brought, a few kilobytes.

        Raises
        ------
        ValueError
            When the hub cannot be asked.
        """
        if checkpoint.repository is None or (checkpoint.path / "config.json").is_file():
            return checkpoint.path
        from hub.cache import snapshot

        found = self.files(checkpoint)
        return snapshot(found.repository, found.commit)


def _ask(repository: str, revision: str) -> "RevisionFiles | ValueError":
    """What the hub says of a revision, or why it says nothing; not waited for long."""
    from hub.repositories import resolve

    answers: list[RevisionFiles | ValueError] = []

    def ask() -> None:
        try:
            answers.append(resolve(repository, revision))
        except ValueError as error:
            answers.append(error)

    # A thread that ends with the process: the hub's own patience lasts a quarter of an hour.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    silence = f"the hub said nothing of {repository} for {ANSWER_SECONDS:.0f} s"
    return answers[0] if answers else ValueError(silence)


class Weights:
    """Weights of the hub checkpoints that steps to be run would read.

    A revision that is not resolved yet counts like the first of its repository.

    Raises
    ------
    ValueError
        When a hub cannot be asked.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], revisions: Revisions) -> None:
        self._download: dict[tuple[str | None, str], Amount] = {}
        self._whole = Amount(0)
        counted: set[str] = set()
        first: dict[str | None, Checkpoint] = {}
        for one in checkpoints:
            like = one if one.pinned is not None else first.setdefault(one.repository, one)
            found = revisions.files(like)
            if like is one:
                new = {d: size for d, size in _missing(found).items() if d not in counted}
                counted |= new.keys()
                num_bytes = sum(new.values())
            else:
                num_bytes = found.num_bytes
            known = Known.exactly if one.pinned is not None else Known.about
            self._download[one.repository, one.revision] = Amount(num_bytes, known)
            self._whole += Amount(found.num_bytes, known)

    def download(self, checkpoint: Checkpoint) -> Amount:
        """Bytes of a checkpoint's files that are not here; shared files count with the first."""
        return self._download[checkpoint.repository, checkpoint.revision]

    def peak(self, disk_budget: int) -> Amount | None:
        """Bytes of weights on disk at once, at most; None where no hub is needed."""
        if not self._download:
            return None
        known = max(Known.at_most, self._whole.known)
        return Amount(min(disk_budget, self._whole.value), known)


def _missing(found: "RevisionFiles") -> dict[str, int]:
    """Bytes by digest of a revision's files that are not here."""
    from hub.cache import blob

    return {
        file.digest: file.size for file in found.files if not blob(found.repository, file).is_file()
    }
