"""Which graphics card a body computes on: a card has one user at a time, on this machine.

A card is taken by locking a file that is named after it, so a second flow, a second study or a
second user waits, and of whoever is killed the kernel drops the lock. The number of bodies
on cards can be bounded further, over several machines, by a Prefect global concurrency limit named
`gpu` (`prefect gcl create gpu --limit 4`); where there is none, nothing is bounded.
"""

import fcntl
import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from studies.settings import Runtime

LIMIT = "gpu"
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
_POLL_SECONDS = 0.2
# Run in another process: this one shall not import torch, nor open the driver.
_LIST_CARDS = """
import json, torch
cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps([str(card.uuid) for card in cards]))
"""


@dataclass(frozen=True)
class Card:
    """A graphics card.

    Attributes
    ----------
    device
        What torch calls it here, `cuda:0`; depends on CUDA_VISIBLE_DEVICES.
    uuid
        What it is called by everyone on the machine.
    """

    device: str
    uuid: str


@cache
def cards() -> tuple[Card, ...]:
    """CUDA cards that torch can use, CUDA_VISIBLE_DEVICES honoured; torch is not imported.

    Costs nothing on a machine without a driver, and a few seconds once on one with a driver.
    """
    if not any(Path(driver).exists() for driver in _DRIVERS):
        return ()
    done = subprocess.run(
        [sys.executable, "-c", _LIST_CARDS], check=True, capture_output=True, text=True
    )
    uuids = json.loads(done.stdout)
    return tuple(Card(f"cuda:{number}", uuid) for number, uuid in enumerate(uuids))


@contextmanager
def card(device: str, among: Sequence[Card] | None = None) -> Iterator[str]:
    """Hold a free card while inside; yields its device.

    Parameters
    ----------
    device
        `auto` or `cuda`: any card; `cuda:1`: that one; `cpu`: none. `auto` is `cpu` where there is
        no card.
    among
        The cards there are; those of this machine by default.

    Raises
    ------
    ValueError
        When there is no such card.

    Notes
    -----
    Waits while all are taken, and says so once.
    """
    present = () if device == "cpu" else cards() if among is None else tuple(among)
    if device == "cpu" or (device == "auto" and not present):
        yield "cpu"
        return
    wanted = [one for one in present if device in ("auto", "cuda", one.device)]
    if not wanted:
        found = ", ".join(one.device for one in present) or "none; use auto or cpu"
        raise ValueError(f"device is {device!r}, but the CUDA devices found are: {found}")
    with ExitStack() as held:
        taken = _first_free(wanted, held)
        if taken is None:
            names = ", ".join(one.device for one in wanted)
            logging.getLogger("prefect.grokpath").info("waiting for a free card: %s taken", names)
        while taken is None:
            time.sleep(_POLL_SECONDS)
            taken = _first_free(wanted, held)
        yield taken.device


@contextmanager
def on_a_card(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The inputs of a body with the device of their `Runtime` settled, and held while inside.

    Inside a Prefect run the concurrency limit `gpu` counts it, if there is such a limit.
    """
    ((name, runtime),) = ((n, value) for n, value in inputs.items() if isinstance(value, Runtime))
    on_cpu = runtime.device == "cpu" or (runtime.device == "auto" and not cards())
    with nullcontext() if on_cpu else _limited(), card(runtime.device) as device:
        yield {**inputs, name: runtime.model_copy(update={"device": device})}


def _limited() -> Any:
    from prefect.concurrency.sync import concurrency

    return concurrency(LIMIT, strict=False)


def _first_free(wanted: Sequence[Card], held: ExitStack) -> Card | None:
    for one in wanted:
        file = os.open(_lock_file(one), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            held.callback(os.close, file)
            return one
    return None


def _lock_file(one: Card) -> Path:
    """A card's lock file, created where it is missing; any user may lock it without writing."""
    folder = Path(tempfile.gettempdir()) / "grokpath-cards"
    try:
        folder.mkdir()
        folder.chmod(0o1777)  # all may add files, nobody may remove another's
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise ValueError(
                f"{folder} is not a folder; cards are locked there: remove it, or set TMPDIR"
            ) from None
    path = folder / f"{one.uuid}.lock"
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        return path
    os.fchmod(file, 0o644)  # whatever the umask
    os.close(file)
    return path
