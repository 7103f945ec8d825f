"""Prefect's and MLflow's servers and workers on this machine, over one data folder.

<root>/prefect.db, mlflow.db    their databases (or in PostgreSQL)
<root>/mlartifacts/             MLflow's files
<root>/prefect/                 Prefect's own folder
<root>/logs/                    what each process printed
<root>/locks/, secrets/
"""

import base64
import fcntl
import os
import shlex
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import psutil
from rich.console import Console

from deployments import settings
from deployments.processes import CHECKOUT, Processes, in_child
from deployments.settings import Address, Options
from store.environment import reach_directly

SERVICES = "deployments.services"
SECONDS_TO_START = 300.0
"""Long, for a busy machine; a server that ends is noticed at once."""
SECONDS_TO_LEAVE = 20.0
"""So long a second `up` waits for what a first one, which was killed, leaves behind."""


def up(options: Options, out: Console) -> int:
    """Start everything, print where it is, and stay until a signal comes; returns the exit code.

    Raises
    ------
    ValueError
        When it cannot or must not be started as requested; nothing was started.
    """
    where = settings.address(options.host, options.allowed_hosts)
    reach_directly(where.url_host.strip("[]"))
    with _alone(options):
        _check_ports(options, where)
        (options.root / "logs").mkdir(exist_ok=True)
        environments = settings.environments(options, where)
        if options.database_url:
            settings.create_databases(settings.server_at(options.database_url))
        else:
            with closing(sqlite3.connect(options.root / "mlflow.db")) as connection:
                # SQLite logs ahead, so that readers and a writer do not wait for each other.
                connection.execute("PRAGMA journal_mode = WAL")
        return in_child(lambda: _run(options, environments, out))


def _run(options: Options, environments: Mapping[str, dict[str, str]], out: Console) -> int:
    """Everything until the end of it; Prefect must answer before anything is registered with it."""
    processes, env = Processes(options.root / "logs"), environments["worker"]
    prefect, mlflow = env["PREFECT_API_URL"], env["MLFLOW_TRACKING_URI"]
    pools = ["cpu", *(["gpu"] if options.num_cards else [])] if options.workers else []
    out.print(f"starting; logs are in {options.root / 'logs'}", markup=False, soft_wrap=True)
    try:
        for name in ("prefect", "mlflow"):
            processes.start(name, [SERVICES, name], environments[name])
        _wait(processes, f"{prefect}/health", env)
        _register(options, env)
        for pool in pools:
            processes.start(pool, [SERVICES, "worker", pool], env)
        _wait(processes, f"{mlflow}/health", env)
        for pool in pools:
            _wait(processes, f"{prefect}/work_pools/{pool}", env, '"READY"')
        out.print(_where(options, env), markup=False, soft_wrap=True)
        processes.wait(lambda: False, "")
    except RuntimeError as error:
        out.print(f"failed: {error}", markup=False, soft_wrap=True)
        return 1
    finally:
        processes.stop()
    return 0


def _wait(processes: Processes, url: str, env: Mapping[str, str], content: str = "") -> None:
    request = urllib.request.Request(url)
    if known := env.get(settings.AUTH):
        request.add_header("Authorization", f"Basic {base64.b64encode(known.encode()).decode()}")

    def answers() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return content in answer.read().decode()
        except OSError:
            return False

    processes.wait(answers, f"{url} does not answer {content}", SECONDS_TO_START)


def _register(options: Options, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", SERVICES, "register", "--cards", str(options.num_cards)],
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
        f"database   {repr(settings.server_at(database)) if database else 'SQLite'}",
        f"logs       {options.root / 'logs'}",
        "",
        "For grokpath run in another terminal:",
        f"  export PREFECT_API_URL={prefect} MLFLOW_TRACKING_URI={mlflow} "
        f"GROKPATH_ROOT={shlex.quote(str(options.root))}",
    ]
    if settings.AUTH in env:
        lines.append(
            "  and the passwords: PREFECT_API_AUTH_STRING (user:password), "
            f"{settings.MLFLOW_USER}, {settings.MLFLOW_PASSWORD}"
        )
    lines += ["", "Ctrl-C ends everything; the data remain.", ""]
    return "\n".join(lines)


# ---------------------------------------------------------------- before anything starts


@contextmanager
def _alone(options: Options) -> Iterator[None]:
    """Be the only `grokpath up` over a folder."""
    root = options.root
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
