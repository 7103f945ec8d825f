"""The tests' own hub, asked by the real clients: what it answers is what they expect of the hub."""

import io
import json
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

ROWS = [{"text": f"sample {i}", "label": i} for i in range(50)]


def parquet(rows):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def model(hub):
    """A repository of three files, one of them large and one in a folder."""
    files = {
        "config.json": b"{}",
        "model.safetensors": bytes(range(256)) * 1000,
        "sub/notes.txt": b"notes",
    }
    return hub.add_revision("model", "some/model", "main", files)


def test_the_clients_of_this_process_ask_the_loopback_hub(hub):
    assert huggingface_hub.constants.ENDPOINT == hub.endpoint == datasets.config.HF_ENDPOINT


def test_a_child_process_asks_the_loopback_hub_too(hub, model):
    code = "import huggingface_hub as h; print(h.HfApi().model_info('some/model').sha)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == model


def test_information_and_listings_agree(hub, model):
    hub.page_size = 1
    api = HfApi()
    info = api.model_info("some/model", files_metadata=True)
    tree = {f.path: f for f in api.list_repo_tree("some/model", recursive=True, expand=True)}
    assert info.sha == model
    assert set(tree) == {"config.json", "model.safetensors", "sub", "sub/notes.txt"}
    for sibling in info.siblings:
        assert tree[sibling.rfilename].size == sibling.size
        assert tree[sibling.rfilename].blob_id == sibling.blob_id
    (weights,) = api.get_paths_info("some/model", ["model.safetensors", "none"], expand=True)
    assert weights.lfs.sha256 == tree["model.safetensors"].lfs.sha256
    assert len(hub.asked("/tree/")) == 4


def test_a_branch_moves_and_its_old_commit_stays(hub, model):
    moved = hub.add_revision("model", "some/model", "main", {"config.json": b"[]"})
    (branch,) = HfApi().list_repo_refs("some/model").branches
    assert (branch.name, branch.target_commit) == ("main", moved)
    assert HfApi().model_info("some/model", revision=model).sha == model != moved


def test_large_files_come_from_the_other_server_without_the_token(hub, model, tmp_path):
    path = hf_hub_download("some/model", "model.safetensors", cache_dir=tmp_path, token="hf_secret")
    assert Path(path).read_bytes() == bytes(range(256)) * 1000
    (redirected,) = hub.asked("/resolve/", "HEAD")
    (fetched,) = [r for r in hub.asked("model.safetensors") if "resolve" not in r.path]
    assert (redirected.with_token, fetched.with_token) == (True, False)
    assert (redirected.status, fetched.status, fetched.sent) == (302, 200, 256_000)


def test_a_snapshot_is_whole(hub, model, tmp_path):
    folder = snapshot_download("some/model", cache_dir=tmp_path)
    assert folder.endswith(model)
    assert (tmp_path / "models--some--model/snapshots" / model / "sub/notes.txt").is_file()


def test_what_is_missing_is_said_as_the_hub_says_it(hub, model):
    api = HfApi()
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("some/other")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("some/model", revision="other")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("some/model", "other.json")


def test_a_gated_repository_opens_to_its_token_alone(hub, model, tmp_path):
    hub.gate("model", "some/model", "hf_right")
    for token in (False, "hf_wrong"):
        with pytest.raises(GatedRepoError):
            hf_hub_download("some/model", "config.json", cache_dir=tmp_path, token=token)
    assert hf_hub_download("some/model", "config.json", cache_dir=tmp_path, token="hf_right")


@pytest.mark.parametrize("start", [0, 1, 255_999])
def test_ranges_are_served(hub, model, start):
    files = HfFileSystem(skip_instance_cache=True)
    with files.open("some/model/model.safetensors", block_size=0 if not start else 1000) as file:
        if start:
            file.seek(start)
        assert file.read(10) == (bytes(range(256)) * 1000)[start : start + 10]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(("suffix", "write"), [("parquet", parquet), ("jsonl", jsonl)])
def test_a_data_set_is_loaded(hub, suffix, write, streaming):
    name = f"some/data-{suffix}"
    hub.add_revision("dataset", name, "main", {f"data/train-0.{suffix}": write(ROWS)})
    rows = datasets.load_dataset(name, split="train", streaming=streaming)
    assert list(rows) == ROWS


@pytest.mark.parametrize("streaming", [True, False])
def test_a_data_set_with_configurations_is_loaded_at_a_commit(hub, streaming):
    card = b"""---
configs:
- config_name: one
  data_files:
  - {split: test, path: one/*.parquet}
- config_name: two
  data_files:
  - {split: test, path: two/*.parquet}
---
# Card
"""
    files = {
        "README.md": card,
        "one/a.parquet": parquet(ROWS[:5]),
        "two/a.parquet": parquet(ROWS[5:]),
    }
    commit = hub.add_revision("dataset", "some/configured", "main", files)
    hub.add_revision("dataset", "some/configured", "main", {**files, "two/a.parquet": b"broken"})
    rows = datasets.load_dataset(
        "some/configured", "two", split="test", revision=commit, streaming=streaming
    )
    assert list(rows) == ROWS[5:]


def test_faults_come_as_often_as_asked(hub, model, tmp_path):
    hub.fault("config.json", status=503, times=2)
    hub.fault("model.safetensors", cut_after=100_000)
    snapshot_download("some/model", cache_dir=tmp_path, max_workers=1)
    content = tmp_path / "models--some--model/snapshots" / model / "model.safetensors"
    assert content.read_bytes() == bytes(range(256)) * 1000
    fetched = [r.sent for r in hub.asked("model.safetensors") if "resolve" not in r.path]
    assert fetched == [100_000, 256_000]
    assert [r.status for r in hub.asked("config.json", "HEAD")] == [503, 503, 200]


def test_a_wrong_bit_and_a_short_file_are_served_when_asked(hub, model, tmp_path):
    hub.fault("model.safetensors", flip=True)
    wrong = hf_hub_download("some/model", "model.safetensors", cache_dir=tmp_path / "a")
    content = Path(wrong).read_bytes()
    assert len(content) == 256_000
    assert sum(a != b for a, b in zip(content, bytes(range(256)) * 1000, strict=True)) == 1
    hub.fault("model.safetensors", shorter_by=3)
    with pytest.raises(OSError, match="Consistency check failed"):
        hf_hub_download("some/model", "model.safetensors", cache_dir=tmp_path / "b")
