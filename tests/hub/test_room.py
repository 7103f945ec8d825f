"""The budget on disk: never more weights than it holds, and never those in use."""

import threading
import time

import pytest

from hub import cache, room
from hub.cache import hold
from hub.download import bring
from hub.repositories import resolve
from hub.room import evict, heavy, sweep

from .conftest import REPOSITORY, sharded

SIZE = 100_000
BUDGET = 2 * SIZE + 50_000  # two checkpoints


@pytest.fixture
def checkpoints(publish, monkeypatch):
    """Four resolved revisions with weights of their own."""
    monkeypatch.setattr(room, "POLL_SECONDS", 0.01)
    for step in range(4):
        publish(f"step{step}", seed=step, num_bytes=SIZE)
    return [resolve(REPOSITORY, f"step{step}") for step in range(4)]


def bring_all(found, budget_bytes=BUDGET, **settings):
    """Bring a checkpoint and look at the disk all the while."""

    def look(done, total, name):
        assert sum(heavy().values()) <= budget_bytes

    folder = bring(
        found.repository,
        found.commit,
        found.files,
        budget_bytes=budget_bytes,
        on_progress=look,
        **settings,
    )
    look(0, 0, "")
    return folder


def has_weights(found):
    return (cache.snapshot(found.repository, found.commit) / "model.safetensors").exists()


def test_the_longest_unused_goes_first(checkpoints):
    first, second, third, fourth = checkpoints
    bring_all(first)
    bring_all(second)
    bring_all(first)
    bring_all(third)
    assert [has_weights(c) for c in checkpoints] == [True, False, True, False]
    bring_all(fourth)
    assert [has_weights(c) for c in checkpoints] == [False, False, True, True]


def test_configuration_and_tokenizer_stay(checkpoints):
    for found in checkpoints:
        bring_all(found)
    for found in checkpoints:
        folder = cache.snapshot(REPOSITORY, found.commit)
        assert (folder / "config.json").is_file()
        assert (folder / "tokenizer.json").is_file()


def test_what_is_held_is_not_evicted(checkpoints):
    first, second, third, _ = checkpoints
    with hold(REPOSITORY, first.commit):
        bring_all(first)
        bring_all(second)
        bring_all(third)
        assert [has_weights(c) for c in checkpoints] == [True, False, True, False]
        assert not evict(REPOSITORY, first.commit)
        assert has_weights(first)
    assert evict(REPOSITORY, first.commit)
    assert not has_weights(first)


def test_room_is_waited_for_while_all_is_held(checkpoints, caplog):
    first, second, third, _ = checkpoints
    leases = [hold(REPOSITORY, found.commit) for found in (first, second)]
    bring_all(first)
    bring_all(second)
    waiting = threading.Thread(target=bring_all, args=(third,))
    waiting.start()
    time.sleep(0.3)
    assert not has_weights(third)
    leases[1].release()
    waiting.join(timeout=10)
    assert [has_weights(c) for c in checkpoints] == [True, False, True, False]
    assert caplog.text.count("wait: of the disk budget of 250 kB other checkpoints use 200 kB") == 1
    leases[0].release()
    leases[0].release()


def test_waiting_ends(checkpoints):
    first, second, third, _ = checkpoints
    with hold(REPOSITORY, first.commit), hold(REPOSITORY, second.commit):
        bring_all(first)
        bring_all(second)
        with pytest.raises(ValueError, match=r"had to wait for longer than 0 s: of the disk budge"):
            bring_all(third, wait_seconds=0.2)
    assert not has_weights(third)


def test_a_lease_ends_with_its_process(checkpoints, start):
    first = checkpoints[0]
    bring_all(first)
    code = f"""
import sys, time
from hub.cache import hold
lease = hold({REPOSITORY!r}, {first.commit!r})
print("held", flush=True)
time.sleep(60)
"""
    child = start(code)
    assert child.stdout.readline() == "held\n"
    assert not evict(REPOSITORY, first.commit)
    child.kill()
    child.wait()
    assert evict(REPOSITORY, first.commit)


def test_one_checkpoint_larger_than_the_budget_is_refused(hub, checkpoints):
    bring_all(checkpoints[0], budget_bytes=SIZE + 10_000)
    with pytest.raises(ValueError, match=r"are 100 kB, more than the disk budget of 50 kB holds"):
        bring_all(checkpoints[1], budget_bytes=50_000)
    assert has_weights(checkpoints[0])


def test_a_checkpoint_may_fill_the_budget_to_the_byte(checkpoints):
    for found in checkpoints:
        bring_all(found, budget_bytes=found.num_bytes)
    assert [has_weights(c) for c in checkpoints] == [False, False, False, True]


def test_leftovers_of_other_downloads_go_before_checkpoints(hub, checkpoints):
    first, second, third, _ = checkpoints
    bring_all(first)
    (weights,) = third.weights
    left = cache.partial(REPOSITORY, weights)
    left.write_bytes(b"x" * 90_000)
    bring_all(second)
    assert not left.exists()
    assert has_weights(first)


def test_a_leftover_of_what_is_wanted_is_resumed(hub, checkpoints):
    first = checkpoints[0]
    (weights,) = first.weights
    whole = hub.repositories["model", REPOSITORY].commits[first.commit]["model.safetensors"]
    partial = cache.partial(REPOSITORY, weights)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(whole.source[:60_000])
    bring_all(first, budget_bytes=first.num_bytes)
    assert hub.sent("model.safetensors") == first.num_bytes - 60_000


def test_sweeping_removes_leftovers_alone(checkpoints):
    first, second, _, _ = checkpoints
    bring_all(first)
    (weights,) = second.weights
    cache.partial(REPOSITORY, weights).write_bytes(b"x" * 1000)
    with cache.locked_blob(cache.storage(REPOSITORY), weights.digest):
        assert sweep() == 0
    assert sweep() == 1000
    assert has_weights(first)


def test_a_twin_keeps_what_both_share(publish, checkpoints, hub):
    first = checkpoints[0]
    publish("step9", seed=0, num_bytes=SIZE)
    twin = resolve(REPOSITORY, "step9")
    bring_all(first)
    bring_all(twin)
    assert evict(REPOSITORY, first.commit)
    assert not has_weights(first)
    assert has_weights(twin)
    assert hub.sent("model.safetensors") == first.num_bytes


def test_a_checkpoint_that_lost_a_shard_gets_that_shard_again(publish, hub):
    publish("step1", sharded())
    found = resolve(REPOSITORY, "step1")
    folder = bring_all(found, budget_bytes=found.num_bytes)
    (folder / "model-00002-of-00003.safetensors").unlink()
    bring_all(found, budget_bytes=found.num_bytes)
    assert hub.sent("safetensors") < found.num_bytes + 1000


def test_threads_that_share_a_budget_for_one_all_get_their_turn(checkpoints):
    budget = checkpoints[0].num_bytes
    seen = []

    def use(found):
        with hold(REPOSITORY, found.commit):
            folder = bring_all(found, budget_bytes=budget)
            time.sleep(0.05)
            seen.append((folder / "model.safetensors").stat().st_size)

    threads = [threading.Thread(target=use, args=(found,)) for found in checkpoints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert seen == [budget] * 4
