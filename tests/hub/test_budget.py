"""The budget on disk: never more weights than it holds, and never those in use."""

import threading
import time

import pytest
from huggingface_hub.utils import WeakFileLock

from hub import cache
from hub.cache import download, lease, snapshot
from hub.repositories import resolve

from .conftest import REPOSITORY, sharded

SIZE = 100_000
BUDGET = 2 * SIZE + 50_000  # two checkpoints


@pytest.fixture
def checkpoints(publish, monkeypatch):
    """Four resolved revisions with weights of their own."""
    monkeypatch.setattr(cache, "POLL_SECONDS", 0.01)
    for step in range(4):
        publish(f"step{step}", seed=step, num_bytes=SIZE)
    return [resolve(REPOSITORY, f"step{step}") for step in range(4)]


def bytes_of_weights():
    """Size of all content on disk, complete or not, without configurations and tokenizers."""
    sizes = (path.stat().st_size for path in cache.cache_root().glob("models--*/blobs/*"))
    return sum(size for size in sizes if size > 1000)


def download_all(found, budget_bytes=BUDGET):
    """Download a checkpoint and watch the disk in the meantime."""

    def check(done, total, name):
        assert bytes_of_weights() <= budget_bytes

    folder = download(
        found.repository,
        found.commit,
        found.files,
        budget_bytes=budget_bytes,
        on_progress=check,
    )
    check(0, 0, "")
    return folder


def evict(found):
    return cache.evict(snapshot(found.repository, found.commit))


def has_weights(found):
    return (snapshot(found.repository, found.commit) / "model.safetensors").exists()


def test_the_longest_unused_goes_first(checkpoints):
    first, second, third, fourth = checkpoints
    download_all(first)
    download_all(second)
    download_all(first)
    download_all(third)
    assert [has_weights(c) for c in checkpoints] == [True, False, True, False]
    download_all(fourth)
    assert [has_weights(c) for c in checkpoints] == [False, False, True, True]


def test_configuration_and_tokenizer_stay(checkpoints):
    for found in checkpoints:
        download_all(found)
    for found in checkpoints:
        folder = snapshot(REPOSITORY, found.commit)
        assert (folder / "config.json").is_file()
        assert (folder / "tokenizer.json").is_file()


def test_what_is_held_is_not_evicted(checkpoints):
    first, second, third, _ = checkpoints
    with lease(REPOSITORY, first.commit):
        download_all(first)
        download_all(second)
        download_all(third)
        assert [has_weights(c) for c in checkpoints] == [True, False, True, False]
        assert not evict(first)
        assert has_weights(first)
    assert evict(first)
    assert not has_weights(first)


def test_space_is_waited_for_while_all_is_held(checkpoints, caplog):
    first, second, third, _ = checkpoints
    leases = [lease(REPOSITORY, found.commit) for found in (first, second)]
    download_all(first)
    download_all(second)
    waiting = threading.Thread(target=download_all, args=(third,))
    waiting.start()
    time.sleep(0.3)
    assert not has_weights(third)
    leases[1].close()
    waiting.join(timeout=10)
    assert [has_weights(c) for c in checkpoints] == [True, False, True, False]
    assert caplog.text.count("wait: other checkpoints in use are 200 kB; the disk budget is") == 1
    leases[0].close()
    leases[0].close()


def test_a_lease_ends_with_its_process(checkpoints, start):
    first = checkpoints[0]
    download_all(first)
    code = f"""
import sys, time
from hub.cache import lease
held = lease({REPOSITORY!r}, {first.commit!r})
print("held", flush=True)
time.sleep(60)
"""
    child = start(code)
    assert child.stdout.readline() == "held\n"
    assert not evict(first)
    child.kill()
    child.wait()
    assert evict(first)


def test_one_checkpoint_larger_than_the_budget_is_refused(hub, checkpoints):
    download_all(checkpoints[0], budget_bytes=SIZE + 10_000)
    with pytest.raises(ValueError, match=r"are 100 kB, and at most 50 kB fit .* budget is 50 kB"):
        download_all(checkpoints[1], budget_bytes=50_000)
    assert has_weights(checkpoints[0])


def test_a_checkpoint_may_fill_the_budget_to_the_byte(checkpoints):
    for found in checkpoints:
        download_all(found, budget_bytes=found.num_bytes)
    assert [has_weights(c) for c in checkpoints] == [False, False, False, True]


def test_what_was_interrupted_is_deleted_unless_it_is_still_downloaded(checkpoints):
    first, second, third, _ = checkpoints
    download_all(first)
    blobs = cache.storage(REPOSITORY) / "blobs"
    interrupted, live, unlinked = (blobs / n for n in ("a.1.incomplete", "b.1.incomplete", "c"))
    for path in (interrupted, live, unlinked):
        path.write_bytes(b"x" * 900)
    lock = cache.cache_root() / ".locks" / blobs.parent.name / "b.lock"
    with WeakFileLock(lock):  # as huggingface_hub does while it downloads
        download_all(second)
    assert [path.exists() for path in (interrupted, live, unlinked)] == [False, True, False]
    download_all(third)
    assert not live.exists()


def test_a_broken_link_hides_no_other_weights(checkpoints):
    first, second, third, _ = checkpoints
    download_all(first)
    (snapshot(REPOSITORY, first.commit) / "tokenizer.json").resolve().unlink()
    download_all(second)
    download_all(third)
    assert [has_weights(c) for c in checkpoints] == [False, True, True, False]


def test_a_twin_retains_what_both_share(publish, checkpoints, hub):
    first = checkpoints[0]
    publish("step9", seed=0, num_bytes=SIZE)
    twin = resolve(REPOSITORY, "step9")
    download_all(first)
    download_all(twin)
    assert evict(first)
    assert not has_weights(first)
    assert has_weights(twin)
    assert hub.sent("model.safetensors") == first.num_bytes


def test_a_checkpoint_that_lost_a_shard_gets_that_shard_again(publish, hub):
    publish("step1", sharded())
    found = resolve(REPOSITORY, "step1")
    folder = download_all(found, budget_bytes=found.num_bytes)
    (folder / "model-00002-of-00003.safetensors").unlink()
    download_all(found, budget_bytes=found.num_bytes)
    shards = [request.path[-26:-21] for request in hub.asked("-of-") if request.status == 200]
    assert sorted(shards) == ["00001", "00002", "00002", "00003"]


def test_threads_that_share_a_budget_for_one_all_get_their_turn(checkpoints):
    budget = checkpoints[0].num_bytes
    seen = []

    def use(found):
        with lease(REPOSITORY, found.commit):
            folder = download_all(found, budget_bytes=budget)
            time.sleep(0.05)
            seen.append((folder / "model.safetensors").stat().st_size)

    threads = [threading.Thread(target=use, args=(found,)) for found in checkpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert seen == [budget] * 4
