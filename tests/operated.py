"""`grokpath up` for tests: the real command, with ports and a data folder of its own."""

import base64
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.servers import environment, free_port, give_prefect_database, running

SECONDS_TO_START = 300.0

UP = "Ctrl-C ends everything"
"""What `grokpath up` prints last, once all is healthy and registered."""


@dataclass
class Up:
    """A running `grokpath up`."""

    root: Path
    prefect: str
    mlflow: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def family(self) -> list[psutil.Process]:
        """The command and everything that descends from it, its guards' children too."""
        mother = psutil.Process(self.process.pid)
        return [mother, *mother.children(recursive=True)]

    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")


@contextmanager
def up_at(root: Path, *options: str, **env: str) -> Iterator[Up]:
    """A `grokpath up` that has printed its addresses; gone afterwards."""
    prefect, mlflow = free_port(), free_port()
    command = [sys.executable, "-m", "flows.cli", "--root", str(root), "up", *options]
    command += ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    root.parent.mkdir(parents=True, exist_ok=True)
    if "GROKPATH_DATABASE_URL" not in env:
        give_prefect_database(root)
    log = root.with_suffix(f".{prefect}.log")
    with running(command, environment(root.with_suffix(".home"), **env), log) as process:
        here = "http://127.0.0.1"
        up = Up(root, f"{here}:{prefect}", f"{here}:{mlflow}", process, log)
        deadline = time.monotonic() + SECONDS_TO_START
        while UP not in up.said():
            assert process.poll() is None, up.said()
            assert time.monotonic() < deadline, up.said()
            time.sleep(0.1)
        yield up


def status(url: str, known: str | None = None, body: bytes | None = None, **headers: str) -> int:
    """HTTP status of a GET, or of a POST of JSON; with `user:password` if given."""
    told = {name.title(): value for name, value in headers.items()}
    if body is not None:
        told["Content-Type"] = "application/json"
    request = urllib.request.Request(url, body, told)
    if known:
        request.add_header("Authorization", f"Basic {base64.b64encode(known.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def wait_until_gone(family: list[psutil.Process], seconds: float = 40) -> None:
    """Until none of the processes lives, else fail and name them."""
    left = psutil.wait_procs(family, timeout=seconds)[1]
    assert not left, [process.cmdline() for process in left]
