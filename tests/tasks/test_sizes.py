"""How large samples and downloads are, before and after they are here."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.flops import Texts
from store.artifacts import Artifact, Checkpoint
from studies.load import load_study
from studies.sources import HubSamples, JsonlSamples, ParquetSamples, TextSamples
from tasks.plan import Planned
from tasks.sizes import SHIPPED, Sizes
from tests import little

REPOSITORY = "some/model"
SHARD, TOKENIZER = 40_000, 3_000


@pytest.fixture
def sizes(tmp_path):
    return Sizes(load_study(little.write_study(tmp_path / "mine", steps=(0,))))


def samples(sizes, source, max_length):
    inputs = {"samples": source, "max_length": max_length}
    found = sizes.samples(Planned("instructions", "", None, None, inputs))
    return None if found is None else found["", ""]


def test_a_limit_of_a_data_set_is_reached_by_the_longest_samples(sizes):
    source = HubSamples(repository="some/data", limit=100)
    assert samples(sizes, source, 2048) == Texts(100, 100 * 2048)


def test_nothing_is_known_of_a_data_set_without_a_limit(sizes):
    assert samples(sizes, HubSamples(repository="some/data", limit=None), 2048) is None
    assert sizes.notes == {"tokens not known, as it has no limit": {"some/data": None}}


@pytest.mark.parametrize("kind", ["jsonl", "text", "parquet"])
def test_a_file_has_no_more_tokens_than_its_bytes_hold(sizes, tmp_path, kind):
    folder = tmp_path / "samples"
    folder.mkdir()
    if kind == "parquet":
        source = ParquetSamples(path=folder, limit=1000)
        rows = pa.table({"text": [str(number) for number in range(900)]})
        pq.write_table(rows, folder / "a.parquet", compression="none")
    elif kind == "text":
        source = TextSamples(path=folder, limit=1000)
        (folder / "a.txt").write_text("\n\n".join("abcd" * 9 for _ in range(50)))
    else:
        source = JsonlSamples(path=folder / "a.jsonl", limit=1000)
        (folder / "a.jsonl").write_text('{"text": "a b c d"}\n' * 60)
    num_bytes = sum(file.stat().st_size for file in folder.iterdir())
    texts = samples(sizes, source, 16)
    assert texts.num_tokens == num_bytes // 4 < 1000 * 16
    assert texts.num_texts == -(-texts.num_tokens // 16)
    assert not sizes.obstacles


def test_a_file_that_cannot_be_read_is_an_obstacle(sizes, tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"body": "no text"}\n')
    samples(sizes, JsonlSamples(path=path), 16)
    (obstacle,) = sizes.obstacles
    assert "samples.jsonl, line 1" in obstacle
    samples(sizes, JsonlSamples(path=path, unusable="drop"), 16)
    assert len(sizes.obstacles) == 1


def artifact(step_name, columns):
    found = Artifact(step_name=step_name, version=1, fingerprint="f" * 20, digest="d" * 64)
    found.path.mkdir(parents=True)
    pq.write_table(pa.table(columns), found.path / f"{step_name}.parquet")
    return found


def test_collected_probes_are_counted(root, sizes):
    columns = {
        "domain": ["math", "math", "code"],
        "split": ["probe", "probe", "probe"],
        "token_ids": [[1, 2, 3], [4], [5, 6]],
    }
    found = sizes.samples(artifact("probes", columns))
    assert found == {("code", "probe"): Texts(1, 2), ("math", "probe"): Texts(2, 4)}


def test_collected_instructions_are_counted(root, sizes):
    found = sizes.samples(artifact("instructions", {"token_ids": [[1, 2], [3]]}))
    assert list(found.values()) == [Texts(2, 3)]


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


def pinned(revision):
    """The same checkpoint, resolved to what its branch is now."""
    from hub.repositories import resolve

    found = resolve(REPOSITORY, revision)
    pin = Artifact(step_name="revision", version=1, fingerprint=revision, digest=revision)
    pin.path.mkdir(parents=True)
    (pin.path / "revision.json").write_text(found.model_dump_json())
    return checkpoint(revision).model_copy(update={"pinned": pin, "digest": found.commit})


def test_files_that_checkpoints_share_are_downloaded_once(hub, root, sizes):
    publish(hub, "step1", "step2")
    one, other = pinned("step1"), pinned("step2")
    config = len(json.dumps({"model_type": "olmoe", "seed": 0}))
    assert sizes.download(one) == config + SHARD + TOKENIZER
    assert sizes.download(other) == config + SHARD
    assert sizes.download(other) == 0


def test_a_revision_that_is_not_resolved_counts_like_the_first(hub, root, sizes):
    publish(hub, "step1", "step2")
    found = [sizes.download(checkpoint("step1")), sizes.download(checkpoint("step2"))]
    assert found == [SHARD, SHARD]
    assert not hub.asked(match="step2")
    assert not hub.asked(match="model.safetensors")


def test_what_the_hub_refuses_is_requested_once(hub, root, sizes):
    found = [sizes.download(checkpoint(name, "no/such")) for name in ("step1", "step2")]
    assert found == [None, None]
    assert len(hub.asked(match="/api/models/no/such/")) == 1
    (note,) = sizes.notes
    assert "no/such" in note


def test_the_hub_is_not_needed_for_a_shipped_model(hub, root, sizes):
    repository = next(iter(SHIPPED))
    found = checkpoint("step5000", repository)
    assert sizes.shape("main", found).num_parameters == pytest.approx(6.9e9, rel=0.01)
    assert sizes.download(found) == 2 * 6_919_161_856
    assert not hub.requests
    assert list(sizes.notes.values()) == [{repository: None}]
