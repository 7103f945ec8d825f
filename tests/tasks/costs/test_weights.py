"""What of a hub's files a study would download."""

import json

import pytest

from store.artifacts import Checkpoint
from tasks.costs.amounts import Amount, Known
from tasks.costs.weights import Revisions, Weights

REPOSITORY = "some/model"
SHARD, TOKENIZER = 40_000, 3_000


def publish(hub, *names):
    """Revisions whose tokenizer is the same and whose weights and configurations differ."""
    for number, name in enumerate(names):
        files = {
            "config.json": json.dumps({"model_type": "olmoe", "seed": number}).encode(),
            "tokenizer.json": b" " * TOKENIZER,
            "model.safetensors": bytes([number]) * SHARD,
        }
        hub.add_revision("model", REPOSITORY, name, files)


def checkpoint(revision, repository=REPOSITORY):
    return Checkpoint(
        series="main",
        step=1,
        tokens_seen=None,
        revision=revision,
        digest=None,
        location="",
        repository=repository,
    )


def pinned(root, revision, revisions):
    """The same checkpoint, resolved to what its branch is now."""
    from store.artifacts import Artifact

    found = revisions.files(checkpoint(revision))
    made = Artifact(step_name="revision", version=1, fingerprint=revision, digest=revision)
    made.path.mkdir(parents=True)
    (made.path / "revision.json").write_text(found.model_dump_json())
    return checkpoint(revision).model_copy(update={"pinned": made, "digest": found.commit})


def test_files_that_checkpoints_share_are_downloaded_once(hub, root):
    publish(hub, "step1", "step2")
    revisions = Revisions()
    both = [pinned(root, name, revisions) for name in ("step1", "step2")]
    weights = Weights(both, revisions)
    assert weights.download(both[0]) == Amount(SHARD + TOKENIZER)
    assert weights.download(both[1]) == Amount(SHARD)
    assert weights.peak(10**9) == Amount(2 * SHARD, Known.at_most)
    assert weights.peak(50_000) == Amount(50_000, Known.at_most)


def test_a_revision_that_is_not_resolved_counts_like_the_first(hub, root):
    publish(hub, "step1", "step2")
    asked = [checkpoint("step1"), checkpoint("step2")]
    weights = Weights(asked, Revisions())
    assert weights.download(asked[1]) == Amount(SHARD, Known.about)
    assert not hub.asked(match="step2")


def test_the_configuration_is_brought_and_the_weights_are_not(hub, root):
    publish(hub, "step1")
    folder = Revisions().config_folder(checkpoint("step1"))
    assert json.loads((folder / "config.json").read_text())["model_type"] == "olmoe"
    assert not (folder / "model.safetensors").exists()
    assert not hub.asked(match="model.safetensors")


def test_what_the_hub_refuses_is_asked_once_and_told_each_time(hub, root):
    revisions = Revisions()
    for _ in range(2):
        with pytest.raises(ValueError, match="no/such"):
            revisions.files(checkpoint("step1", "no/such"))
    assert len(hub.asked(match="/api/models/no/such/")) == 1


def test_a_study_without_a_hub_has_no_weights_to_download():
    assert Weights([], Revisions()).peak(10**9) is None
