"""Where the servers listen, who may reach them, and the environment of each process.

On 127.0.0.1 only this machine's users reach them. On any other address everyone on the network
does, and whoever reaches a Prefect server can make its workers run what they like; so there they do
not start without a password. Settings go through the environment, so that no password is among the
arguments that every user of the machine can list; and only a server knows its database.
"""

import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

AUTH = "PREFECT_SERVER_API_AUTH_STRING"
HOSTS = "GROKPATH_UP_HOSTS"
"""Names that requests to Prefect's server may go to, with commas between."""
MLFLOW_USER, MLFLOW_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
SHORTEST_PASSWORD, FEWEST_CHARACTERS = 12, 5
KNOWN = ("password", "changeme", "change-me", "secret", "letmein", "qwerty", "123456", "grokpath")
DATABASES = {"prefect": "grokpath_prefect", "mlflow": "grokpath_mlflow"}
DRIVERS = {"prefect": "asyncpg", "mlflow": "psycopg2"}
OURS = ("PREFECT_SERVER_", "PREFECT_API_", "PREFECT_UI_", "PREFECT_PROFILE", "MLFLOW_")


@dataclass(frozen=True)
class Options:
    """The options of `grokpath up`."""

    root: Path
    host: str
    prefect_port: int
    mlflow_port: int
    allowed_hosts: tuple[str, ...]
    workers: bool
    num_cards: int
    database_url: str | None


# ---------------------------------------------------------------- who may reach them


@dataclass(frozen=True)
class Credentials:
    """User and password of both servers, each as `user:password`; MLflow's is an administrator."""

    prefect: str
    mlflow: str


def credentials(host: str, env: Mapping[str, str] = os.environ) -> Credentials | None:
    """What the environment says; None on this machine's own address when it says nothing.

    Raises
    ------
    ValueError
        When a password is missing where one is needed, or is a weak one.
    """
    prefect = env.get(AUTH, "")
    if not prefect:
        if is_loopback(host) and not env.get(MLFLOW_PASSWORD):
            return None
        needed = "" if is_loopback(host) else f"on {host!r} others can reach the servers; "
        raise ValueError(
            f"{needed}{AUTH} is not set; set it to user:password, with at least "
            f"{SHORTEST_PASSWORD} characters of password (such as: export {AUTH}="
            '"$USER:$(openssl rand -hex 16)")'
        )
    user, _, password = prefect.partition(":")
    if not (user and password):
        raise ValueError(f"{AUTH} is not of the form user:password")
    _check(AUTH, user, password)
    user, password = env.get(MLFLOW_USER) or user, env.get(MLFLOW_PASSWORD) or password
    _check(MLFLOW_PASSWORD, user, password)
    return Credentials(prefect, f"{user}:{password}")


def _check(name: str, user: str, password: str) -> None:
    weak = (
        len(password) < SHORTEST_PASSWORD
        or len(set(password)) < FEWEST_CHARACTERS
        or any(word in password.lower() for word in (user.lower(), *KNOWN))
    )
    if weak:
        raise ValueError(
            f"the password in {name} is too easy to guess; expected at least {SHORTEST_PASSWORD} "
            f"characters, {FEWEST_CHARACTERS} different ones, and neither the user's name nor a "
            "word such as 'password' (openssl rand -hex 16 makes a good one)"
        )


@dataclass(frozen=True)
class Address:
    """Where the servers listen.

    Attributes
    ----------
    bind
        The one address, resolved, so that a name cannot mean another one later.
    url_host
        What this machine calls it in a URL.
    hosts
        Names and addresses that a request may go to.
    """

    bind: str
    url_host: str
    hosts: tuple[str, ...]


def address(host: str, allowed: Iterable[str] = ()) -> Address:
    """What a host name or address means here; a ValueError when it means nothing."""
    bind = local = _resolved(host)[0]
    names = ["127.0.0.1", "localhost", "::1", *allowed, host, bind]
    if not is_loopback(host):
        names += [socket.gethostname(), socket.getfqdn()]
    if ipaddress.ip_address(bind).is_unspecified:
        local = "127.0.0.1" if bind == "0.0.0.0" else "::1"
        found = (one for several in psutil.net_if_addrs().values() for one in several)
        names += [one.address for one in found if one.family in (socket.AF_INET, socket.AF_INET6)]
    urls = [f"[{name}]" if ":" in name and name[0] != "[" else name for name in (local, *names)]
    return Address(bind, urls[0], tuple(dict.fromkeys(urls[1:])))


def is_loopback(host: str) -> bool:
    """Whether every address that the name stands for is this machine's own."""
    return all(ipaddress.ip_address(one).is_loopback for one in _resolved(host))


def _resolved(host: str) -> list[str]:
    """Addresses of a host, IPv4 first."""
    if not host.strip():  # would mean every address to a server
        raise ValueError("the host is empty; give an address or a name, such as 127.0.0.1")
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"the host {host!r} has no address ({error})") from None
    return [str(one[4][0]) for one in sorted(found, key=lambda one: one[0] != socket.AF_INET)]


# ---------------------------------------------------------------- PostgreSQL


def server_at(text: str) -> URL:
    """A PostgreSQL server by its address; its `repr` hides the password.

    Raises
    ------
    ValueError
        When the address is not of the form `postgresql://user:password@host:port`.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = URL.create("")
    if url.drivername not in ("postgresql", "postgres") or not (url.host and url.username):
        raise ValueError(
            "the database address is not of the form postgresql://user:password@host:port"
        )
    return URL.create("postgresql", url.username, url.password, url.host, url.port or 5432)


def address_of(name: str, server: URL) -> str:
    """SQLAlchemy's address of the database of `prefect` or `mlflow`; holds the password."""
    database = server.set(drivername=f"postgresql+{DRIVERS[name]}", database=DATABASES[name])
    return database.render_as_string(hide_password=False)


def create_databases(server: URL) -> None:
    """Create the two databases where they are missing; a ValueError when that is refused."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError

    url = server.set(drivername="postgresql+psycopg2", database="postgres")
    try:
        engine = create_engine(
            url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}
        )
        with engine.connect() as connection:
            found = set(connection.scalars(text("SELECT datname FROM pg_database")))
            for name in set(DATABASES.values()) - found:
                connection.execute(text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
    except ImportError:
        raise ValueError(
            "PostgreSQL needs the Python package psycopg2: pip install -c constraints.txt "
            "-e '.[postgres]'"
        ) from None
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        raise ValueError(
            f"{server!r} cannot be used ({reason}); its user needs the right to create the "
            f"databases {' and '.join(DATABASES.values())}, or to use them where they are there"
        ) from None


# ---------------------------------------------------------------- environments


def environments(options: Options, where: Address) -> dict[str, dict[str, str]]:
    """Environments of `prefect`, `mlflow` and `worker`."""
    known = credentials(options.host)
    server = server_at(options.database_url) if options.database_url else None
    common = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith((*OURS, "GROKPATH_DATABASE_"))
        },
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "GROKPATH_ROOT": str(options.root),
        "GROKPATH_HOST": where.bind,
        "PREFECT_HOME": str(options.root / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_API_URL": f"http://{where.url_host}:{options.prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://{where.url_host}:{options.mlflow_port}",
    }
    if known is not None:
        user, _, password = known.mlflow.partition(":")
        common |= {AUTH: known.prefect, MLFLOW_USER: user, MLFLOW_PASSWORD: password}
    sqlite = {
        "prefect": f"sqlite+aiosqlite:///{options.root / 'prefect.db'}",
        "mlflow": f"sqlite:///{options.root / 'mlflow.db'}",
    }
    database = {name: address_of(name, server) if server else sqlite[name] for name in sqlite}
    return {
        "prefect": {
            **common,
            "PREFECT_SERVER_API_HOST": where.bind,
            "PREFECT_SERVER_API_PORT": str(options.prefect_port),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database["prefect"],
            # A page may be shown under several names; it talks to the one it came from.
            "PREFECT_UI_API_URL": "/api",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "",
            HOSTS: ",".join(where.hosts),
        },
        "mlflow": {
            **common,
            **_mlflow(options, where, guarded=known is not None),
            "MLFLOW_BACKEND_STORE_URI": database["mlflow"],
        },
        # Heartbeats: without them nobody notices when a flow run dies.
        "worker": {**common, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"},
    }


def _mlflow(options: Options, where: Address, *, guarded: bool) -> dict[str, str]:
    port, folder = options.mlflow_port, options.root / "secrets"
    # A proxy's pages come encrypted.
    origins = [f"http://{host}:{port}" for host in where.hosts]
    origins += [f"https://{host}" for host in options.allowed_hosts]
    settings = {
        "MLFLOW_HOST": where.bind,
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_UVICORN_OPTS": "--log-level warning --timeout-graceful-shutdown 3",
        "MLFLOW_ARTIFACTS_DESTINATION": str(options.root / "mlartifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it runs code that a request holds
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(
            name for host in where.hosts for name in (host, f"{host}:{port}")
        ),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
    }
    if guarded:
        settings["MLFLOW_FLASK_SERVER_SECRET_KEY"] = lasting_secret(folder / "mlflow")
        settings["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "mlflow-auth.ini")
        (folder / "mlflow-users.db").touch(mode=0o600)
        (folder / "mlflow-auth.ini").write_text(  # without a permission nobody may do anything
            "[mlflow]\n"
            "default_permission = NO_PERMISSIONS\n"
            f"database_uri = sqlite:///{folder / 'mlflow-users.db'}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "grant_default_workspace_access = false\n",
            encoding="utf-8",
        )
    return settings


def lasting_secret(file: Path) -> str:
    """A secret that only this user can read, chosen once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = file.with_name(f".{file.name}-{os.getpid()}")
        part.touch(mode=0o600)
        part.write_text(secrets.token_hex(32))
        part.replace(file)
    file.chmod(0o600)
    return file.read_text().strip()
