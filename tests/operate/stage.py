"""A Prefect server, workers and a study of seconds, to be operated, broken, killed and retried.

The study's benchmark reads its answers from a file beside the study. Moved away, only checkpoints
that are not scored yet are affected, because that file is no part of the benchmark's identity. And
while a file `slow` lies beside it, scoring runs into a native loop that never ends and never lets
go of Python's lock: nothing but a signal that kills can stop it.
"""

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.attempts import attempts, is_computed
from tests.little import write_checkpoint, write_study
from tests.servers import (
    CHECKOUT,
    ask,
    environment,
    free_port,
    prefect,
    running,
    wait_for,
    worker_of,
)

SECONDS = 300.0
DEPLOYMENT = "study/file"
PROCESS_DOCS = """
import json
from pathlib import Path

ANSWERS = Path(__file__).parents[1] / "answers"


def with_answers(documents):
    if (ANSWERS / "slow").exists():
        (ANSWERS / "stuck").touch()
        sum(range(10**12))
    key = json.loads((ANSWERS / "key.json").read_text())
    return documents.map(lambda document: {"answer": key[document["document_id"]]})
"""


def until(reached: Callable[[], Any], what: str) -> Any:
    """Poll until something is true; returns it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := reached():
            return value
        time.sleep(0.2)
    raise AssertionError(f"waited in vain until {what}")


class Stage:
    """All of it, in one folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.home, self.root = folder / "prefect", folder / "data"
        self.answers = folder / "study" / "answers"
        self.checkpoints = folder / "study" / "checkpoints"
        self.study = write_study(folder / "study", steps=(0, 20))
        self._write_benchmark(folder / "study" / "benchmarks")
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.page = f"http://127.0.0.1:{self.port}/v2"
        self._stack = stack
        self.home.mkdir()

    def _write_benchmark(self, folder: Path) -> None:
        with (folder / "questions.yaml").open("a") as file:
            file.write("process_docs: !function key.with_answers\n")
        (folder / "key.py").write_text(PROCESS_DOCS)
        self.answers.mkdir()
        (self.answers / "key.json").write_text(json.dumps([n % 2 for n in range(12)]))

    def start_server(self) -> psutil.Process:
        """Start the server, or start it again on the same database."""
        command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(self.port)]
        log = self.home / "server.log"
        started = running(command, environment(self.home, self.api), log)
        process = self._stack.enter_context(started)
        wait_for(f"{self.api}/health", process, log)
        return psutil.Process(process.pid)

    def start_worker(self) -> psutil.Process:
        """Start one more worker on the study's data."""
        settings = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        started = worker_of(self.home, self.api, "cpu", self.root, **settings)
        return psutil.Process(self._stack.enter_context(started).pid)

    def kill(self) -> list[psutil.Process]:
        """Kill server and worker, as a power cut does; returns what was killed."""
        killed = [self.worker, self.server, *self.server.children(recursive=True)]
        for one in killed:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        return killed

    def command(self, module: str, *words: str) -> None:
        """Run a module of ours against the server and the study's data."""
        env = environment(self.home, self.api, GROKPATH_ROOT=str(self.root))
        command = [sys.executable, "-m", module, *words]
        done = subprocess.run(
            command, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def prefect(self, *words: str) -> str:
        """A `prefect` command against the server."""
        return prefect(self.home, self.api, *words)

    def write_checkpoint(self, step: int) -> None:
        """What a training run does."""
        write_checkpoint(self.checkpoints, step)

    def find(self, kind: str, **asked: Any) -> list[dict]:
        """Objects of the server: `flow_runs`, `deployments`, ..."""
        return ask(f"{self.api}/{kind}/filter", asked)

    def deployment(self) -> str:
        """Id of the deployment that takes any study."""
        flow, name = DEPLOYMENT.split("/")
        return ask(f"{self.api}/deployments/name/{flow}/{name}")["id"]

    def newest_run(self) -> str | None:
        """Id of the deployment's latest run."""
        of_it = {"id": {"any_": [self.deployment()]}}
        runs = self.find("flow_runs", deployments=of_it, sort="EXPECTED_START_TIME_DESC", limit=1)
        return runs[0]["id"] if runs else None

    def errors_logged(self, run_id: str) -> list[str]:
        """What a run's log on the server holds at level ERROR."""
        asked = {"flow_run_id": {"any_": [run_id]}, "level": {"ge_": 40}}
        return [row["message"] for row in self.find("logs", logs=asked)]

    def start_run(self, changes: dict[str, Any]) -> str:
        """Have the deployment run the study; returns the run's id."""
        asked = {"parameters": {"study": str(self.study), "changes": changes}}
        address = f"{self.api}/deployments/{self.deployment()}/create_flow_run"
        return ask(address, asked)["id"]

    def run(self, run_id: str) -> dict:
        """A flow run."""
        return ask(f"{self.api}/flow_runs/{run_id}")

    def until_state(self, run_id: str, name: str) -> dict:
        """Wait for a state of a run; another one that is final fails at once."""

        def reached() -> dict | None:
            state = self.run(run_id)["state"]
            other = state["type"] in ("COMPLETED", "FAILED") and state["name"] != name
            assert not other, (state["name"], state["message"], self.end_of_logs())
            return state if state["name"] == name else None

        return until(reached, f"the run is {name}")

    def end_of_logs(self) -> str:
        """What the worker printed last."""
        log = self.home / "worker.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def held_locks(self) -> list[str]:
        """Locks of artifacts that some process holds."""
        held = []
        for path in (self.root / "locks").glob("*.lock"):
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(path.name)
        return held

    def attempts(self) -> list[tuple[str, str]]:
        """How every attempt at an artifact ended so far, and its run."""
        return [(_ending(row), row["run"]) for row in attempts(self.root)]


def _ending(row) -> str:
    return "computed" if is_computed(row) else "failed" if row["error"] else "open"
