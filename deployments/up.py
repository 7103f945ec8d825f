"""Prefect's and MLflow's servers and workers on this machine, over one data folder.

    <root>/prefect.db, mlflow.db    their databases (or PostgreSQL: deployments/postgres.py)
    <root>/mlartifacts/             MLflow's files
    <root>/prefect/                 Prefect's own folder
    <root>/logs/                    what every process printed
    <root>/locks/, secrets/

The processes are those of the Procfile, told what to do by deployments/environment.py.
"""

import fcntl
import os
import shlex
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console

from deployments import postgres, safety
from deployments.answers import answer, answers
from deployments.environment import Wanted, environments
from deployments.guard import UP_PID
from deployments.postgres import Server
from deployments.processes import Processes
from deployments.safety import Address
from store.environment import reach_directly

CHECKOUT = Path(__file__).parents[1]
PROCFILE = CHECKOUT / "deployments" / "Procfile"
SERVERS = {"prefect", "mlflow"}
SECONDS_TO_START = 300.0
"""Long, for a busy machine; a server that ends is noticed at once."""
SECONDS_TO_LEAVE = 20.0
"""So long a second `up` waits for what a first one, which was killed, leaves behind."""


def up(wanted: Wanted, out: Console) -> None:
    """Start everything, say where it is, and stay until a signal comes.

    Raises
    ------
    ValueError
        When it cannot or must not be started as asked; nothing was started.
    RuntimeError
        When something ended by itself or did not start; everything else was ended.
    """
    where = safety.address(wanted.host, wanted.allowed_hosts)
    reach_directly(where.url_host.strip("[]"))
    credentials = safety.credentials(wanted.host)
    os.environ |= {UP_PID: str(os.getpid()), "GROKPATH_ROOT": str(wanted.root)}
    with _alone(wanted.root):
        _check_ports(wanted, where)
        (wanted.root / "logs").mkdir(exist_ok=True)
        with _database(wanted) as server:
            told = environments(wanted, where, credentials, server)
            processes = Processes(wanted.root / "logs", out)
            for name, command in _commands(wanted).items():
                env = told.get(name, told["worker"])
                processes.add_process(name, command, env=env, cwd=CHECKOUT)
            if server is not None and server.process is not None:
                log = wanted.root / "logs" / "postgres.log"
                processes.depend_on("postgres", server.process, log)
            processes.in_background(lambda: _settle(wanted, told["worker"], processes))
            processes.run()


def _settle(wanted: Wanted, env: Mapping[str, str], processes: Processes) -> None:
    """Register as soon as Prefect answers; once all do, say where everything is."""
    deadline = time.monotonic() + SECONDS_TO_START
    prefect, mlflow = env["PREFECT_API_URL"], env["MLFLOW_TRACKING_URI"]
    _wait(lambda: answers(f"{prefect}/health"), f"nothing answers at {prefect}", deadline)
    _register(wanted, env)
    _wait(lambda: answers(f"{mlflow}/health"), f"nothing answers at {mlflow}", deadline)
    for pool in set(_commands(wanted)) - SERVERS:
        _wait(partial(_has_worker, env, pool), f"no worker polls the pool {pool}", deadline)
    processes.say(_where(wanted, env))


def _wait(until: Callable[[], bool], otherwise: str, deadline: float) -> None:
    while not until():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{otherwise} after {SECONDS_TO_START:.0f} seconds")
        time.sleep(0.2)


def _has_worker(env: Mapping[str, str], pool: str) -> bool:
    url = f"{env['PREFECT_API_URL']}/work_pools/{pool}"
    return answer(url, env.get("PREFECT_API_AUTH_STRING")).get("status") == "READY"


def _register(wanted: Wanted, env: Mapping[str, str]) -> None:
    register = ["python", "-m", "deployments.register", "--cards", str(wanted.num_cards)]
    done = subprocess.run(
        [sys.executable, "-m", "deployments.guard", *register],
        cwd=CHECKOUT,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"registering failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")


def _where(wanted: Wanted, env: Mapping[str, str]) -> str:
    prefect, mlflow = env["PREFECT_API_URL"], env["MLFLOW_TRACKING_URI"]
    lines = [
        "",
        f"Prefect    {prefect.removesuffix('/api')}",
        f"MLflow     {mlflow}",
        f"data       {wanted.root}",
        f"database   {_told_database(wanted)}",
        f"logs       {wanted.root / 'logs'}",
        "",
        "For grokpath run in another terminal:",
        f"  export PREFECT_API_URL={prefect} MLFLOW_TRACKING_URI={mlflow} "
        f"GROKPATH_ROOT={shlex.quote(str(wanted.root))}",
    ]
    if "PREFECT_API_AUTH_STRING" in env:
        lines.append(
            "  and the passwords: PREFECT_API_AUTH_STRING (user:password), "
            f"{safety.MLFLOW_USER}, {safety.MLFLOW_PASSWORD}"
        )
    lines += ["", "Ctrl-C ends everything; what was made is kept.", ""]
    return "\n".join(lines)


def _told_database(wanted: Wanted) -> str:
    if wanted.database_url:
        return repr(postgres.other_server(wanted.database_url))
    if wanted.postgres:
        return f"PostgreSQL in {wanted.root / 'postgres'}"
    if (wanted.root / "postgres" / "data").exists():
        return "SQLite; what was kept in PostgreSQL before is there with --postgres"
    return "SQLite"


# ---------------------------------------------------------------- before anything starts


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Be the only `grokpath up` over a folder."""
    file = (root / "locks" / "up.lock").open("a+")
    deadline = time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "?"
            lives = pid.isdecimal() and psutil.pid_exists(int(pid))
            if lives or time.monotonic() > deadline + SECONDS_TO_LEAVE:
                raise ValueError(
                    f"grokpath up runs already over {root} (process {pid}); use that one, end it, "
                    "or choose another folder with --root"
                ) from None
            time.sleep(0.2)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    with file:
        yield


def _check_ports(wanted: Wanted, where: Address) -> None:
    if wanted.prefect_port == wanted.mlflow_port:
        raise ValueError(f"both servers cannot listen on port {wanted.mlflow_port}")
    for port, option in ((wanted.prefect_port, "prefect"), (wanted.mlflow_port, "mlflow")):
        family = socket.AF_INET6 if ":" in where.bind else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((where.bind, port))
            except OSError as error:
                raise ValueError(
                    f"port {port} of {where.bind} cannot be used ({error.strerror}); end what "
                    f"listens there, or choose another one with --{option}-port"
                ) from None


@contextmanager
def _database(wanted: Wanted) -> Iterator[Server | None]:
    """The PostgreSQL server with our databases in it; None for SQLite."""
    if not (wanted.postgres or wanted.database_url):
        _log_ahead(wanted.root / "mlflow.db")
        yield None
        return
    postgres.check_driver()
    url, log = wanted.database_url, wanted.root / "logs" / "postgres.log"
    found = (
        nullcontext(postgres.other_server(url)) if url else postgres.our_server(wanted.root, log)
    )
    with found as server:
        postgres.make_databases(server)
        yield server


def _log_ahead(file: Path) -> None:
    """Have SQLite log ahead, so that readers and a writer do not wait for each other."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _commands(wanted: Wanted) -> dict[str, str]:
    from honcho.environ import parse_procfile

    commands: dict[str, str] = dict(parse_procfile(PROCFILE.read_text()).processes)
    if not wanted.workers:
        del commands["cpu"]
    if not wanted.workers or not wanted.num_cards:
        del commands["gpu"]
    return commands
