import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from studies.settings import Runtime
from tasks import devices
from tasks.devices import Card, card, cards, on_a_card

TWO = [Card("cuda:0", "GPU-a"), Card("cuda:1", "GPU-b")]
spawn = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    """A folder for locks of the test's own."""
    monkeypatch.setattr(devices.tempfile, "tempdir", str(tmp_path))
    return tmp_path / "grokpath-cards"


def hold(folder, told):
    """In another process: take a card, tell which, keep it until there is a file `go_on`."""
    devices.tempfile.tempdir = str(folder)
    with card("auto", TWO) as device:
        told.put((device, os.getpid()))
        while not (folder / "go_on").exists():
            time.sleep(0.02)


@pytest.fixture
def holders(tmp_path):
    """Start processes that hold a card each; a queue tells which they got."""
    told, started = spawn.Queue(), []

    def start(number):
        for _ in range(number):
            started.append(spawn.Process(target=hold, args=(tmp_path, told)))
            started[-1].start()
        return told

    yield start
    (tmp_path / "go_on").touch()
    for process in started:
        process.join()


def test_two_holders_never_share_a_card_and_a_third_waits(holders):
    told = holders(3)
    assert {told.get(timeout=60)[0] for _ in range(2)} == {"cuda:0", "cuda:1"}
    time.sleep(1)
    assert told.empty()


def test_a_killed_holder_frees_its_card(holders):
    told = holders(3)
    device, process = told.get(timeout=60)
    told.get(timeout=60)
    os.kill(process, signal.SIGKILL)
    assert told.get(timeout=60)[0] == device


def increments(folder, counter, rounds):
    devices.tempfile.tempdir = str(folder)
    for _ in range(rounds):
        with card("auto", TWO[:1]):
            value = int(counter.read_text())
            time.sleep(0.001)
            counter.write_text(str(value + 1))


def test_nothing_is_lost_between_many_short_holders(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    crowd = [spawn.Process(target=increments, args=(tmp_path, counter, 5)) for _ in range(4)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    assert counter.read_text() == "20"


def test_one_process_takes_different_cards_and_gives_them_back():
    with card("cuda", TWO) as first, card("auto", TWO) as second:
        assert {first, second} == {"cuda:0", "cuda:1"}
    with card("cuda:1", TWO) as device:
        assert device == "cuda:1"
    with pytest.raises(RuntimeError, match="inside"), card("cuda:0", TWO):
        raise RuntimeError("inside")
    with card("cuda:0", TWO) as device:
        assert device == "cuda:0"


def test_waiting_is_said_once(holders, caplog, tmp_path):
    told = holders(2)
    for _ in range(2):
        told.get(timeout=60)
    caplog.set_level("INFO", "prefect.grokpath")
    threading.Timer(1, (tmp_path / "go_on").touch).start()
    with card("auto", TWO):
        assert (tmp_path / "go_on").exists()
    assert [r.message for r in caplog.records] == ["waiting for a free card: cuda:0, cuda:1 taken"]


def test_a_card_is_known_by_its_uuid_whatever_its_number():
    with card("cuda:0", [Card("cuda:0", "GPU-b")]), card("auto", TWO) as device:
        assert device == "cuda:0"  # cuda:1 is the same card as the other's cuda:0


def test_without_cards_auto_computes_on_the_cpu_and_cuda_is_refused():
    with card("auto", []) as device:
        assert device == "cpu"
    with card("cpu", TWO) as device:
        assert device == "cpu"
    with (
        pytest.raises(ValueError, match="'cuda', but the CUDA devices found are: none"),
        card("cuda", []),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"'cuda:2', but .* are: cuda:0, cuda:1"),
        card("cuda:2", TWO),
    ):
        pass


def test_any_user_may_lock_and_none_may_remove_anothers_lock(locks):
    old = os.umask(0o077)
    try:
        with card("cuda:0", TWO):
            assert stat.S_IMODE(locks.stat().st_mode) == 0o1777
            assert stat.S_IMODE((locks / "GPU-a.lock").stat().st_mode) == 0o644
    finally:
        os.umask(old)


def test_a_link_in_the_way_is_not_followed(locks, tmp_path):
    locks.symlink_to(tmp_path)
    with pytest.raises(ValueError, match="grokpath-cards is not a folder"), card("auto", TWO):
        pass
    locks.unlink()
    locks.mkdir()
    (locks / "GPU-a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"GPU-a\.lock"), card("cuda:0", TWO):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_cards_of_this_machine_are_those_that_torch_finds():
    asked = subprocess.run(
        [sys.executable, "-c", devices._LIST_CARDS], capture_output=True, check=True
    )
    import torch

    assert asked.stdout.count(b'"') == 2 * torch.cuda.device_count()
    assert [one.device for one in cards()] == [
        f"cuda:{number}" for number in range(torch.cuda.device_count())
    ]


def test_inputs_leave_with_their_device_settled():
    inputs = {"out": "there", "runtime": Runtime(workers=3)}
    with on_a_card(inputs) as settled:
        assert settled["runtime"].device == ("cuda:0" if cards() else "cpu")
        assert settled["runtime"].workers == 3
    assert inputs["runtime"].device == "auto"


def test_a_limit_of_prefect_bounds_the_holders(prefect_server, monkeypatch):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    monkeypatch.setattr(devices, "cards", lambda: tuple(TWO))
    with get_client(sync_client=True) as client:

        @flow
        def body():
            with on_a_card({"runtime": Runtime()}) as settled:
                limits = client.read_global_concurrency_limits()
                return settled["runtime"].device, {one.name: one.active_slots for one in limits}

        assert body() == ("cuda:0", {})  # no limit, no bound
        limit = GlobalConcurrencyLimitCreate(name="gpu", limit=1)
        client.create_global_concurrency_limit(limit)
        try:
            assert body() == ("cuda:0", {"gpu": 1})
            (after,) = client.read_global_concurrency_limits()
            assert after.active_slots == 0
        finally:
            client.delete_global_concurrency_limit_by_name("gpu")
