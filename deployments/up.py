"""Prefect's and MLflow's servers and workers on this machine, over one data folder.

    <root>/prefect.db, mlflow.db    their databases (or PostgreSQL: deployments/postgres.py)
    <root>/mlartifacts/             MLflow's files
    <root>/prefect/                 Prefect's own folder
    <root>/logs/                    what every process printed
    <root>/locks/, secrets/

Settings go to the processes through the environment, so that no password is among the arguments
that every user of the machine can list.
"""

import fcntl
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deployments import postgres, safety
from deployments.answers import answers
from deployments.guard import UP_PID
from deployments.mlflow_server import SETTINGS as MLFLOW_AUTH_SETTINGS
from deployments.postgres import DATABASES, Server
from deployments.prefect_server import HOSTS
from deployments.processes import Processes
from deployments.safety import Address, Credentials

CHECKOUT = Path(__file__).parents[1]
PROCFILE = CHECKOUT / "deployments" / "Procfile"
SECONDS_TO_START = 180.0
SECONDS_TO_LEAVE = 20.0
"""So long a second `up` waits for what a first one, which was killed, leaves behind."""

HEARTBEAT_SECONDS = 30


@dataclass(frozen=True)
class Wanted:
    """What is asked of `grokpath up`; see its options."""

    root: Path
    host: str
    prefect_port: int
    mlflow_port: int
    allowed_hosts: tuple[str, ...]
    workers: bool
    num_cards: int
    postgres: bool
    database_url: str | None


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
    credentials = safety.credentials(wanted.host)
    os.environ |= {UP_PID: str(os.getpid()), "GROKPATH_ROOT": str(wanted.root)}
    with _alone(wanted.root):
        _check_ports(wanted, where)
        (wanted.root / "logs").mkdir(exist_ok=True)
        with _database(wanted) as server:
            environments = _environments(wanted, where, credentials, server)
            processes = Processes(wanted.root / "logs", out)
            for name, command in _commands(wanted).items():
                env = environments.get(name, environments["worker"])
                processes.add_process(name, command, env=env, cwd=CHECKOUT)
            if server is not None and server.process is not None:
                log = wanted.root / "logs" / "postgres.log"
                processes.depend_on("postgres", server.process, log)
            processes.in_background(lambda: _settle(wanted, environments["worker"], out))
            processes.run()


def _settle(wanted: Wanted, env: Mapping[str, str], out: Console) -> None:
    """Once both servers answer: register, and say where everything is."""
    deadline = time.monotonic() + SECONDS_TO_START
    for url in (f"{env['PREFECT_API_URL']}/health", f"{env['MLFLOW_TRACKING_URI']}/health"):
        while not answers(url):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing answers at {url} after {SECONDS_TO_START:.0f} seconds")
            time.sleep(0.2)
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
    _say_where(wanted, env, out)


def _say_where(wanted: Wanted, env: Mapping[str, str], out: Console) -> None:
    prefect, mlflow = env["PREFECT_API_URL"], env["MLFLOW_TRACKING_URI"]
    lines = [
        "",
        f"Prefect    {prefect.removesuffix('/api')}",
        f"MLflow     {mlflow}",
        f"data       {wanted.root}",
        f"logs       {wanted.root / 'logs'}",
        f"runs of grokpath in another terminal go here after:  export PREFECT_API_URL={prefect} "
        f"MLFLOW_TRACKING_URI={mlflow}",
    ]
    if "PREFECT_API_AUTH_STRING" in env:
        lines.append(
            "and with the password in PREFECT_API_AUTH_STRING (user:password), "
            f"{safety.MLFLOW_USER} and {safety.MLFLOW_PASSWORD}"
        )
    lines += ["Ctrl-C ends everything; what was made is kept", ""]
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)


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
            pid = file.read().strip()
            if Path(f"/proc/{pid}").exists() or time.monotonic() > deadline + SECONDS_TO_LEAVE:
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


# ---------------------------------------------------------------- settings


def _environments(
    wanted: Wanted, where: Address, credentials: Credentials | None, server: Server | None
) -> dict[str, dict[str, str]]:
    """Environments of `prefect`, `mlflow` and `worker`; only a server's has its database."""
    ours = ("PREFECT_SERVER_", "PREFECT_API_", "PREFECT_UI_", "MLFLOW_", "GROKPATH_DATABASE_")
    common = {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "GROKPATH_ROOT": str(wanted.root),
        "PREFECT_HOME": str(wanted.root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_API_URL": f"http://{where.url_host}:{wanted.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://{where.url_host}:{wanted.mlflow_port}",
    }
    worker = {**common, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}
    if credentials is not None:
        user, _, password = credentials.mlflow.partition(":")
        worker |= {
            "PREFECT_API_AUTH_STRING": credentials.prefect,
            safety.MLFLOW_USER: user,
            safety.MLFLOW_PASSWORD: password,
        }
    return {
        "prefect": common | _prefect_settings(wanted, where, credentials, server),
        "mlflow": common | _mlflow_settings(wanted, where, credentials, server),
        "worker": worker,
    }


def _prefect_settings(
    wanted: Wanted, where: Address, credentials: Credentials | None, server: Server | None
) -> dict[str, str]:
    settings = {
        "PREFECT_SERVER_API_HOST": where.bind,
        "PREFECT_SERVER_API_PORT": str(wanted.prefect_port),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
            server.url("asyncpg", DATABASES["prefect"])
            if server
            else f"sqlite+aiosqlite:///{wanted.root / 'prefect.db'}"
        ),
        # A page may be shown under several names; it talks to the one it came from.
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",
        HOSTS: ",".join(where.hosts),
    }
    return settings | ({safety.AUTH: credentials.prefect} if credentials else {})


def _mlflow_settings(
    wanted: Wanted, where: Address, credentials: Credentials | None, server: Server | None
) -> dict[str, str]:
    settings = {
        "MLFLOW_HOST": where.bind,
        "MLFLOW_PORT": str(wanted.mlflow_port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_UVICORN_OPTS": "--log-level warning --timeout-graceful-shutdown 3",
        "MLFLOW_BACKEND_STORE_URI": (
            server.url("psycopg2", DATABASES["mlflow"])
            if server
            else f"sqlite:///{wanted.root / 'mlflow.db'}"
        ),
        "MLFLOW_ARTIFACTS_DESTINATION": str(wanted.root / "mlartifacts"),
        # It runs code that a request brings.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(
            name for host in where.hosts for name in (host, f"{host}:{wanted.mlflow_port}")
        ),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            f"http://{host}:{wanted.mlflow_port}" for host in where.hosts
        ),
    }
    if credentials is None:
        return settings
    user, _, password = credentials.mlflow.partition(":")
    return settings | {
        "MLFLOW_AUTH_ADMIN_USERNAME": user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        MLFLOW_AUTH_SETTINGS: str(_mlflow_users(wanted.root)),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": safety.kept_secret(wanted.root / "secrets" / "mlflow"),
    }


def _mlflow_users(root: Path) -> Path:
    """MLflow's file about users: whoever is not told otherwise may do nothing."""
    file = root / "secrets" / "mlflow-auth.ini"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    users = file.with_name("mlflow-users.db")
    users.touch(mode=0o600)
    file.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{users}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "grant_default_workspace_access = false\n",
        encoding="utf-8",
    )
    return file
