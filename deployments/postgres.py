"""A PostgreSQL of our own in a data folder, or one that is there already; a database per server.

Ours listens on loopback only, without a socket file, and wants a password (SCRAM) that lies beside
its data in a file that only this user can read. It comes from the system's package; the programs
refuse to run as root, so root runs them as the user `postgres`, or `nobody`.
"""

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from deployments.guard import UP_PID, as_user
from deployments.processes import tail
from deployments.safety import kept_secret

DATABASES = {"prefect": "grokpath_prefect", "mlflow": "grokpath_mlflow"}
USER = "grokpath"
SECONDS_TO_START = 60.0
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


@dataclass(frozen=True)
class Server:
    """Where a PostgreSQL server is.

    Attributes
    ----------
    process
        Ours; None for a server that is not.
    """

    host: str
    port: int
    user: str
    password: str
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, driver: str, database: str) -> str:
        """SQLAlchemy's address of a database; holds the password."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        return f"postgresql+{driver}://{user}:{password}@{self.host}:{self.port}/{database}"

    def __repr__(self) -> str:
        return f"PostgreSQL at {self.host}:{self.port}"


@contextmanager
def our_server(root: Path, log: Path) -> Iterator[Server]:
    """Our server over `<root>/postgres`, made the first time, stopped afterwards.

    Raises
    ------
    ValueError
        When the programs are not installed or the folder is closed to the user that runs them.
    RuntimeError
        When it does not start; with the end of its log.
    """
    folder, user = root / "postgres", _other_user()
    data = folder / "data"
    programs = programs_for(data)
    folder.mkdir(mode=0o711, exist_ok=True)
    (root / "locks").mkdir(exist_ok=True)  # its guard waits there for who uses it
    password = kept_secret(folder / "password")
    if not (data / "PG_VERSION").exists():
        _make(programs, data, password, user)
    port = _kept_port(folder / "port.json")
    with log.open("ab") as file:
        process = subprocess.Popen(
            _command(programs, data, port, user),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "GROKPATH_ROOT": str(root), UP_PID: str(os.getpid())},
            start_new_session=True,
        )
    server = Server("127.0.0.1", port, USER, password, process)
    try:
        _wait_until_ready(server, log)
        yield server
    finally:
        process.terminate()
        process.wait()


def running_server(root: Path) -> Server | None:
    """Our server over `<root>/postgres`, if somebody has started it."""
    import psycopg2

    folder = root / "postgres"
    if not (folder / "data" / "postmaster.pid").exists():
        return None
    port = int(json.loads((folder / "port.json").read_text()))
    server = Server("127.0.0.1", port, USER, kept_secret(folder / "password"))
    try:
        with _connected(server):
            return server
    except psycopg2.OperationalError:  # a file that a killed server left
        return None


def other_server(url: str) -> Server:
    """A server that is there already, by its address `postgresql://user:password@host:port`.

    Raises
    ------
    ValueError
        When it is not such an address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not (parts.hostname and parts.username):
        raise ValueError(
            "the database address is not of the form postgresql://user:password@host:port"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Server(host, parts.port or 5432, unquote(parts.username), unquote(parts.password or ""))


def make_databases(server: Server) -> None:
    """The two databases, where they are missing.

    Raises
    ------
    ValueError
        When the server cannot be reached or does not let us.
    """
    import psycopg2

    try:
        with _connected(server) as cursor:
            for name in DATABASES.values():
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{name}"')
    except psycopg2.Error as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{server!r} cannot be used ({reason}); its user needs the right to make the databases "
            f"{' and '.join(DATABASES.values())}, or to use them where they are there"
        ) from None


def check_driver() -> None:
    """Refuse early when MLflow's driver for PostgreSQL is not installed."""
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        raise ValueError(
            "PostgreSQL needs the Python package psycopg2: pip install -c constraints.txt "
            "-e '.[postgres]'"
        ) from None


@contextmanager
def _connected(server: Server) -> Iterator[Any]:
    import psycopg2

    connection = psycopg2.connect(
        host=server.host.strip("[]"),
        port=server.port,
        user=server.user,
        password=server.password,
        dbname="postgres",
        connect_timeout=5,
    )
    try:
        connection.autocommit = True
        yield connection.cursor()
    finally:
        connection.close()


def programs_for(data: Path) -> Path:
    """Folder of the server programs: of the version that made the data, else the newest."""
    made_by = data / "PG_VERSION"
    version = made_by.read_text().strip() if made_by.exists() else ""
    found = [p.parent for place in _PLACES for p in Path("/").glob(f"{place[1:]}/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    if not found:
        raise ValueError(
            "PostgreSQL's server programs (initdb, postgres) were not found; install them (Debian: "
            "apt-get install postgresql), or name a server that runs already with --database-url"
        )
    if version:
        found = [p for p in found if re.search(rf"\b{version}\b", str(p))] or found
    return max(found, key=lambda folder: [int(n) for n in re.findall(r"\d+", str(folder))])


def _other_user() -> str | None:
    """Whom root runs the server as; None when we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _make(programs: Path, data: Path, password: str, user: str | None) -> None:
    """initdb into a neighbour that takes its place when it is whole."""
    part = data.with_name("data.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    with _password_file(password, user) as secret:
        if user:
            shutil.chown(part, user)
        command = [str(programs / "initdb"), "--pgdata", str(part), "--pwfile", str(secret)]
        command += [
            "--username",
            USER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd="/", **as_user(user)
        )
    if done.returncode:
        closed = user and "Permission denied" in done.stderr
        advice = (
            f"; the user {user}, as whom root runs PostgreSQL, must be able to enter the folder: "
            "choose another one with --root, or do not run as root"
        )
        raise ValueError(f"initdb failed: {done.stderr.strip()}{advice if closed else ''}")
    part.rename(data)


@contextmanager
def _password_file(password: str, user: str | None) -> Iterator[Path]:
    """The password where the other user can read it, for a moment."""
    descriptor, name = tempfile.mkstemp(prefix="grokpath-")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(password)
        if user:
            shutil.chown(path, user)
        yield path
    finally:
        path.unlink()


def _kept_port(file: Path) -> int:
    """The port of last time while it is free, else another one."""
    port = json.loads(file.read_text()) if file.exists() else 0
    for wanted in (port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port = probe.getsockname()[1]
            break
    file.write_text(json.dumps(port))
    return int(port)


def _command(programs: Path, data: Path, port: int, user: str | None) -> list[str]:
    guard = [sys.executable, "-m", "deployments.guard", "--outlast", "servers", "--stop", "SIGINT"]
    if user:
        guard += ["--user", user]
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "port": str(port),
        "max_connections": "200",
    }
    given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [*guard, str(programs / "postgres"), "-D", str(data), *given]


def _wait_until_ready(server: Server, log: Path) -> None:
    import psycopg2

    assert server.process is not None
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with _connected(server):
                return
        except psycopg2.OperationalError:
            time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start; the end of {log}:\n{tail(log)}")
