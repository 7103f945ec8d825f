"""Real Prefect servers and workers for tests, each a process of its own in a folder of its own."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

CHECKOUT = Path(__file__).parents[1]
SECONDS_TO_START = 120.0


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prefect_database() -> Path:
    """Folder of an empty database of Prefect's; tests/conftest.py puts one here for all tests."""
    raise AssertionError("asked outside of a test")


def make_prefect_database(folder: Path) -> None:
    """Have Prefect make its database in a folder: its migrations take a processor ten seconds."""
    subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
        env={**os.environ, "PREFECT_HOME": str(folder)},
        check=True,
        capture_output=True,
    )


def give_prefect_database(folder: Path) -> None:
    """Put an empty database where a server with this home looks for it, unless there is one."""
    file = folder / "prefect.db"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (
            closing(sqlite3.connect(prefect_database() / file.name)) as empty,
            closing(sqlite3.connect(file)) as copy,
        ):
            empty.backup(copy)


def environment(home: Path, api_url: str | None = None, **more: str) -> dict[str, str]:
    """Ours for a process whose Prefect keeps its things in `home` and talks to a server.

    Without one a command starts its own, whose database is in the data folder.
    """
    give_prefect_database(home)
    if api_url is None and "GROKPATH_ROOT" in more:
        give_prefect_database(Path(more["GROKPATH_ROOT"]) / "prefect")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    told = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(CHECKOUT),
        **({"PREFECT_API_URL": api_url} if api_url else {}),
    }
    return {**inherited, **told, **more}


@contextmanager
def running(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """A process in a session of its own; it and all its children are gone afterwards."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, env=env, cwd=CHECKOUT, stdout=file, stderr=file, start_new_session=True
        )
    family = [psutil.Process(process.pid)]
    try:
        yield process
    finally:
        if process.poll() is None:
            family += psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for left in psutil.wait_procs(family, timeout=5)[1]:
            left.kill()


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    """Until something answers there.

    Raises
    ------
    AssertionError
        When the process ended or nothing answers; with the end of its log.
    """
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"nothing answers at {url}:\n{log.read_text()[-3000:]}")


def ask(url: str, body: Any = None, method: str | None = None) -> Any:
    """What Prefect's API answers: to a GET, or to a POST of a body.

    Asked again while the server's database is locked (503), as Prefect's own client does.
    """
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        answer = httpx.request(
            method or ("GET" if body is None else "POST"), url, json=body, timeout=60
        )
        if answer.status_code != 503 or time.monotonic() > deadline:
            answer.raise_for_status()
            return answer.json() if answer.content else None
        time.sleep(0.2)


@contextmanager
def prefect_at(home: Path, port: int | None = None, **settings: str) -> Iterator[str]:
    """A Prefect server with its user interface, its database in `home`; yields the API's address.

    Started again with the same `home` and `port`, it is the same server.
    """
    port = port or free_port()
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    api_url, log = f"http://127.0.0.1:{port}/api", home / "server.log"
    with running(command, environment(home, api_url, **settings), log) as process:
        wait_for(f"{api_url}/health", process, log)
        yield api_url


def prefect(home: Path, api_url: str, *words: str, **more: str) -> str:
    """Run a `prefect` command; returns what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *words],
        cwd=CHECKOUT,
        env=environment(home, api_url, **more),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def worker_of(
    home: Path, api_url: str, pool: str, root: Path, **more: str
) -> Iterator[subprocess.Popen]:
    """A process worker of a work pool whose runs keep their data in `root`."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    env = environment(home, api_url, GROKPATH_ROOT=str(root), **more)
    with running(command, env, home / "worker.log") as process:
        yield process
