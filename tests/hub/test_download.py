"""Bringing checkpoints over a bad line: nothing wrong is ever stored."""

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import time

import pytest

from hub import cache, connection
from hub.cache import download
from hub.repositories import resolve

from .conftest import REPOSITORY, SMALL, checkpoint, sharded

WEIGHTS = "model.safetensors"


@pytest.fixture
def found(publish):
    """A resolved revision with one file of weights."""
    publish("step1")
    return resolve(REPOSITORY, "step1")


def download_all(found, **settings):
    return download(found.repository, found.commit, found.files, **settings)


def fetches(hub, name=WEIGHTS):
    """Requests for a file's content, without those that were only redirected."""
    return [request for request in hub.asked(name) if "/resolve/" not in request.path]


def child_code(found):
    """Lines that download a revision in another process."""
    return f"""
import json
from hub.cache import download
from hub.repositories import RevisionFiles
found = RevisionFiles(**json.loads({found.model_dump_json()!r}))
print(download(found.repository, found.commit, found.files))
"""


def partials():
    return list(cache.cache_root().glob("*/blobs/*.incomplete"))


def weights_on_disk(found):
    return [file for file in found.weights if cache.blob(REPOSITORY, file).exists()]


def wait_until(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


# ---------------------------------------------------------------- a good line


@pytest.mark.parametrize("files", [checkpoint(), sharded()], ids=["single", "sharded"])
def test_a_checkpoint_is_downloaded_complete_and_once(hub, publish, files):
    publish("step1", files)
    found = resolve(REPOSITORY, "step1")
    folder = download_all(found)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        file.name: files[file.name] for file in found.files
    }
    num_requests = len(hub.requests)
    assert download_all(found) == folder
    assert len(hub.requests) == num_requests
    assert partials() == []


def test_the_layout_is_that_of_the_hubs_own_library(found):
    from huggingface_hub import hf_hub_download, scan_cache_dir

    folder = download_all(found)
    (repository,) = scan_cache_dir(cache.cache_root()).repos
    assert repository.repo_id == REPOSITORY
    (revision,) = repository.revisions
    assert revision.commit_hash == found.commit
    assert {file.file_name for file in revision.files} == {file.name for file in found.files}
    path = hf_hub_download(
        REPOSITORY,
        WEIGHTS,
        revision=found.commit,
        cache_dir=cache.cache_root(),
        local_files_only=True,
    )
    assert path == str(folder / WEIGHTS)


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(hub, publish, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    publish("step1")
    download_all(resolve(REPOSITORY, "step1"))
    assert {request.with_token for request in hub.asked("/resolve/")} == {True}
    assert {request.with_token for request in fetches(hub)} == {False}


def test_configuration_and_tokenizer_come_without_the_weights(hub, found):
    folder = download_all(found, weights=False, budget_bytes=0)
    assert {path.name for path in folder.iterdir()} == set(SMALL)
    assert fetches(hub) == []


def test_progress_rises_to_all_of_it(found):
    reported = []
    download_all(found, on_progress=lambda done, total, name: reported.append((done, total, name)))
    done = [d for d, _, _ in reported]
    assert done == sorted(done)
    config = next(file.size for file in found.files if file.name == "config.json")
    total = sum(file.size for file in found.files) - config  # which came when it was resolved
    assert reported[-1] == (total, total, WEIGHTS)
    assert {t for _, t, _ in reported} == {total}


def test_a_branch_that_moves_meanwhile_changes_nothing(publish, found):
    publish("step1", seed=99)
    assert (download_all(found) / WEIGHTS).read_bytes() == checkpoint()[WEIGHTS]
    moved = resolve(REPOSITORY, "step1")
    assert moved.commit != found.commit
    assert (download_all(moved) / WEIGHTS).read_bytes() == checkpoint(seed=99)[WEIGHTS]


def test_two_commits_with_the_same_tokenizer_fetch_it_once(hub, publish):
    for branch, seed in (("step1", 1), ("step2", 2)):
        publish(branch, seed=seed)
        download_all(resolve(REPOSITORY, branch))
    assert len(hub.asked("tokenizer.json")) == 1


# ---------------------------------------------------------------- broken off


def test_a_killed_download_leaves_complete_shards_and_nothing_else(hub, publish, start):
    publish("step1", sharded(num_bytes=1_000_000))
    found = resolve(REPOSITORY, "step1")
    hub.fault("model-00002", bytes_per_second=2e5)
    child = start(child_code(found))
    wait_until(lambda: fetches(hub, "model-00002") and partials())
    child.send_signal(signal.SIGKILL)
    child.wait()
    folder = download_all(found)
    assert partials() == []
    for file in found.weights:
        assert hashlib.sha256((folder / file.name).read_bytes()).hexdigest() == file.sha256
    assert len(fetches(hub, "model-00001")) == 1


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub, found, impatient):
    hub.fault(WEIGHTS, cut_after=70_000, times=2)
    download_all(found)
    assert [request.range for request in fetches(hub)] == [None, "bytes=70000-", "bytes=140000-"]
    assert hub.sent(WEIGHTS) == found.num_bytes


def test_a_server_that_ignores_where_to_resume_starts_over(hub, found, impatient):
    hub.fault(WEIGHTS, cut_after=70_000)
    hub.fault(WEIGHTS, whole=True)
    assert (download_all(found) / WEIGHTS).read_bytes() == checkpoint()[WEIGHTS]
    assert [(r.range, r.status) for r in fetches(hub)] == [(None, 200), ("bytes=70000-", 200)]


def test_a_hub_that_is_not_there_is_given_up(found, start):
    code = "from hub import connection; connection.REACH_SECONDS = 2.0\n" + child_code(found)
    _, errors = start(code, HF_ENDPOINT="http://127.0.0.1:9").communicate()
    assert (
        "the hub at http://127.0.0.1:9 is out of reach (ConnectError); gave up after 1 s" in errors
    )


def test_a_line_that_always_breaks_is_given_up(hub, found, impatient):
    hub.fault(WEIGHTS, cut_after=0, times=None)
    with pytest.raises(ValueError, match=r"in part 3 times \(the hub is out of reach \(RemotePro"):
        download_all(found)
    assert weights_on_disk(found) == partials() == []


def test_a_hub_that_falls_silent_is_tried_again(hub, found, impatient):
    hub.fault(WEIGHTS, hang=2)
    started_at = time.monotonic()
    download_all(found)
    assert time.monotonic() - started_at < 2


# ---------------------------------------------------------------- busy


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_storm_of_refusals_is_waited_out(hub, found, impatient, status):
    hub.fault("", status=status, times=4)
    assert resolve(REPOSITORY, "step1") == found
    hub.fault(WEIGHTS, status=status, times=4)
    download_all(found)
    assert [request.status for request in hub.requests].count(status) == 8


def test_the_pause_that_the_hub_requests_is_observed(hub, found, impatient):
    hub.fault(WEIGHTS, status=429, retry_after="1")
    started_at = time.monotonic()
    download_all(found)
    assert time.monotonic() - started_at >= 0.9


def test_a_pause_longer_than_patience_is_refused_at_once(hub, found, impatient):
    hub.fault("", status=429, retry_after="86400", times=None)
    with pytest.raises(
        ValueError, match=r"answers 429 Too Many Requests; gave up .* with 86400 s more"
    ):
        download_all(found)
    assert len([r for r in hub.requests if r.status == 429]) == 1


def test_an_endless_storm_is_given_up(hub, found, impatient):
    hub.fault("", status=503, times=None)
    started_at = time.monotonic()
    with pytest.raises(ValueError, match="answers 503 Service Unavailable; gave up after"):
        download_all(found)
    assert time.monotonic() - started_at <= connection.PATIENCE_SECONDS + 1


def test_a_refusal_that_will_not_pass_is_not_tried_again(hub, found):
    hub.fault(WEIGHTS, status=403, times=None)
    with pytest.raises(ValueError, match="answers 403 Forbidden"):
        download_all(found)
    assert len(hub.asked(WEIGHTS, method="HEAD")) == 1


# ---------------------------------------------------------------- damaged


@pytest.mark.parametrize("damage", [{"flip": True}, {"shorter_by": 5}], ids=["bit", "short"])
@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_a_file_that_comes_damaged_once_is_healed(hub, found, name, damage):
    hub.fault(name, **damage)
    assert (download_all(found) / name).read_bytes() == checkpoint()[name]
    assert len(fetches(hub)) == (2 if name == WEIGHTS else 1)


@pytest.mark.parametrize("damage", [{"flip": True}, {"shorter_by": 5}], ids=["bit", "short"])
def test_a_file_that_always_comes_damaged_is_refused_and_nothing_stays(hub, found, damage):
    hub.fault(WEIGHTS, **damage, times=None)
    (weights,) = found.weights
    with pytest.raises(ValueError, match=rf"model.safetensors of .* 3 times .*{weights.sha256}"):
        download_all(found)
    assert weights_on_disk(found) == partials() == []
    assert not (cache.snapshot(REPOSITORY, found.commit) / WEIGHTS).exists()
    hub.faults.clear()
    assert (download_all(found) / WEIGHTS).read_bytes() == checkpoint()[WEIGHTS]


def test_a_shard_that_comes_damaged_leaves_the_others(hub, publish):
    publish("step1", sharded())
    found = resolve(REPOSITORY, "step1")
    hub.fault("model-00002", flip=True, times=None)
    with pytest.raises(ValueError, match=r"model-00002-of-00003\.safetensors of"):
        download_all(found)
    hub.faults.clear()
    download_all(found)
    assert len(fetches(hub, "model-00001")) == 1


def test_a_file_that_was_changed_here_is_fetched_again(hub, found):
    path = (download_all(found) / WEIGHTS).resolve()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    download_all(found)
    assert (path.read_bytes(), len(fetches(hub))) == (content, 2)
    path.write_bytes(content)  # another time, the same content
    download_all(found)
    assert len(fetches(hub)) == 2


def test_what_was_checked_is_not_read_again(found, monkeypatch):
    download_all(found)
    monkeypatch.setattr(cache.HubFile, "digest_of", None)
    download_all(found)


# ---------------------------------------------------------------- disk


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A data folder on a disk of its own, of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted as root")
    monkeypatch.setenv("GROKPATH_ROOT", str(folder / "data"))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_meanwhile_leaves_no_half_file(publish, small_disk):
    publish("step1", num_bytes=3_000_000)
    found = resolve(REPOSITORY, "step1")

    def fill(done, total, name):
        if name == WEIGHTS and not (small_disk / "other").exists():
            (small_disk / "other").write_bytes(b"x" * 2_000_000)

    with pytest.raises(ValueError, match=r"became full while .* \(No space left on device\)"):
        download_all(found, on_progress=fill)
    assert weights_on_disk(found) == partials() == []
    (small_disk / "other").unlink()
    assert (download_all(found) / WEIGHTS).stat().st_size == found.num_bytes


def test_a_disk_without_space_is_refused_before_anything_comes(hub, publish, small_disk):
    publish("step1", num_bytes=5_000_000)
    with pytest.raises(ValueError, match=r"are 5 MB, and at most 4.* MB fit into .* are free; "):
        download_all(resolve(REPOSITORY, "step1"))
    assert fetches(hub) == []


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(publish, start):
    publish("step1", num_bytes=300_000)
    found = resolve(REPOSITORY, "step1")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    _, errors = start(limit + child_code(found)).communicate()
    assert "ValueError: the disk of" in errors, errors
    assert weights_on_disk(found) == partials() == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


# ---------------------------------------------------------------- several, and none


def test_two_processes_fetch_once(hub, publish, start):
    publish("step1", num_bytes=1_000_000)
    found = resolve(REPOSITORY, "step1")
    hub.fault(WEIGHTS, bytes_per_second=1e6)
    children = [start(child_code(found)) for _ in range(2)]
    answers = {child.communicate()[0].strip() for child in children}
    assert answers == {str(cache.snapshot(REPOSITORY, found.commit))}
    assert len(fetches(hub)) == 1
    assert len(hub.asked("tokenizer.json")) == 1


def test_offline_a_complete_cache_is_enough(hub, found, start):
    folder = download_all(found)
    num_requests = len(hub.requests)
    assert start(child_code(found), HF_HUB_OFFLINE="1").communicate()[0].strip() == str(folder)
    assert len(hub.requests) == num_requests


def test_offline_an_incomplete_cache_says_what_is_missing(found, start):
    download_all(found, weights=False)
    (cache.snapshot(REPOSITORY, found.commit) / "tokenizer.json").resolve().unlink()
    _, errors = start(child_code(found), HF_HUB_OFFLINE="1").communicate()
    message = errors.strip().splitlines()[-1]
    assert message.startswith("ValueError: offline (HF_HUB_OFFLINE), and ")
    assert f"lacks tokenizer.json, model.safetensors of {REPOSITORY} at {found.commit}" in message


def test_a_listing_of_files_survives_json(found):
    reported = json.loads(found.model_dump_json())
    assert type(found)(**reported) == found
