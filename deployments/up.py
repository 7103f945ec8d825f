"""Prefect's and MLflow's servers and workers on this machine, over one data folder.

    <root>/prefect.db, mlflow.db    their databases (or in PostgreSQL: deployments/postgres.py)
    <root>/mlartifacts/             MLflow's files
    <root>/prefect/                 Prefect's own folder
    <root>/logs/                    what each process printed
    <root>/locks/, secrets/

The processes are those of the Procfile, with the settings of deployments/environment.py.
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
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console
from sqlalchemy.engine import URL

from deployments import postgres, safety
from deployments.answers import answer, answers
from deployments.environment import Options, environments
from deployments.guard import UP_PID
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


def up(options: Options, out: Console) -> None:
    """Start everything, print where it is, and stay until a signal comes.

    Raises
    ------
    ValueError
        When it cannot or must not be started as requested; nothing was started.
    RuntimeError
        When something ended by itself or did not start; everything else was ended.
    """
    where = safety.address(options.host, options.allowed_hosts)
    reach_directly(where.url_host.strip("[]"))
    credentials = safety.credentials(options.host)
    os.environ |= {UP_PID: str(os.getpid()), "GROKPATH_ROOT": str(options.root)}
    with _alone(options.root):
        _check_ports(options, where)
        (options.root / "logs").mkdir(exist_ok=True)
        settings = environments(options, where, credentials, _database(options))
        processes = Processes(options.root / "logs", out)
        for name, command in _commands(options).items():
            env = settings.get(name, settings["worker"])
            processes.add_process(name, command, env=env, cwd=CHECKOUT)
        processes.run(lambda: _settle(options, settings["worker"], processes))


def _settle(options: Options, env: Mapping[str, str], processes: Processes) -> None:
    """Register as soon as Prefect answers; once all do, print where everything is."""
    deadline = time.monotonic() + SECONDS_TO_START
    prefect, mlflow = env["PREFECT_API_URL"], env["MLFLOW_TRACKING_URI"]
    _wait(lambda: answers(f"{prefect}/health"), f"nothing answers at {prefect}", deadline)
    _register(options, env)
    _wait(lambda: answers(f"{mlflow}/health"), f"nothing answers at {mlflow}", deadline)
    for pool in set(_commands(options)) - SERVERS:
        _wait(partial(_has_worker, env, pool), f"no worker polls the pool {pool}", deadline)
    processes.announce(_where(options, env))


def _wait(until: Callable[[], bool], otherwise: str, deadline: float) -> None:
    while not until():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{otherwise} after {SECONDS_TO_START:.0f} seconds")
        time.sleep(0.2)


def _has_worker(env: Mapping[str, str], pool: str) -> bool:
    url = f"{env['PREFECT_API_URL']}/work_pools/{pool}"
    return answer(url, env.get("PREFECT_API_AUTH_STRING")).get("status") == "READY"


def _register(options: Options, env: Mapping[str, str]) -> None:
    register = ["python", "-m", "deployments.register", "--cards", str(options.num_cards)]
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


def _where(options: Options, env: Mapping[str, str]) -> str:
    prefect, mlflow = env["PREFECT_API_URL"], env["MLFLOW_TRACKING_URI"]
    database = options.database_url
    lines = [
        "",
        f"Prefect    {prefect.removesuffix('/api')}",
        f"MLflow     {mlflow}",
        f"data       {options.root}",
        f"database   {repr(postgres.server_at(database)) if database else 'SQLite'}",
        f"logs       {options.root / 'logs'}",
        "",
        "For grokpath run in another terminal:",
        f"  export PREFECT_API_URL={prefect} MLFLOW_TRACKING_URI={mlflow} "
        f"GROKPATH_ROOT={shlex.quote(str(options.root))}",
    ]
    if "PREFECT_API_AUTH_STRING" in env:
        lines.append(
            "  and the passwords: PREFECT_API_AUTH_STRING (user:password), "
            f"{safety.MLFLOW_USER}, {safety.MLFLOW_PASSWORD}"
        )
    lines += ["", "Ctrl-C ends everything; the data remain.", ""]
    return "\n".join(lines)


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


def _check_ports(options: Options, where: Address) -> None:
    if options.prefect_port == options.mlflow_port:
        raise ValueError(f"both servers cannot listen on port {options.mlflow_port}")
    for port, option in ((options.prefect_port, "prefect"), (options.mlflow_port, "mlflow")):
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


def _database(options: Options) -> URL | None:
    """The PostgreSQL server, with our databases in it; None for SQLite."""
    if options.database_url:
        server = postgres.server_at(options.database_url)
        postgres.create_databases(server)
        return server
    with closing(sqlite3.connect(options.root / "mlflow.db")) as connection:
        # SQLite logs ahead, so that readers and a writer do not wait for each other.
        connection.execute("PRAGMA journal_mode = WAL")
    return None


def _commands(options: Options) -> dict[str, str]:
    from honcho.environ import parse_procfile

    commands: dict[str, str] = dict(parse_procfile(PROCFILE.read_text()).processes)
    if not options.workers:
        del commands["cpu"]
    if not options.workers or not options.num_cards:
        del commands["gpu"]
    return commands
