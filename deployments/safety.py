"""Who may reach the servers: which address they listen on, under which names, with which password.

On 127.0.0.1 only this machine's users reach them. On any other address everyone on the network
does, and whoever reaches a Prefect server can make its workers run what they like; so there they do
not start without a password. Both servers refuse requests under a foreign host name or from a
foreign web page on every address (Prefect's by :mod:`deployments.prefect_server`, MLflow's by
itself).
"""

import ipaddress
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

AUTH = "PREFECT_SERVER_API_AUTH_STRING"
MLFLOW_USER, MLFLOW_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
SHORTEST_PASSWORD = 12
FEWEST_CHARACTERS = 5
KNOWN = ("password", "changeme", "change-me", "secret", "letmein", "qwerty", "123456", "grokpath")
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Credentials:
    """User name and password of both servers.

    Attributes
    ----------
    prefect
        As `user:password`.
    mlflow
        The same for MLflow's administrator.
    """

    prefect: str
    mlflow: str


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
        Names and addresses that a request may be made to.
    """

    bind: str
    url_host: str
    hosts: tuple[str, ...]


def address(host: str, allowed: Iterable[str] = ()) -> Address:
    """What a host name or address means here.

    Raises
    ------
    ValueError
        When it is empty or means nothing.
    """
    bind = _resolved(host)[0]
    any_address = ipaddress.ip_address(bind).is_unspecified
    names = [*LOOPBACK_NAMES, *allowed, host, bind]
    if not is_loopback(host):
        names += [socket.gethostname(), socket.getfqdn()]
    if any_address:
        names += _own_addresses()
        local = "127.0.0.1" if bind == "0.0.0.0" else "::1"
    else:
        local = bind
    return Address(bind, _in_url(local), tuple(dict.fromkeys(_in_url(name) for name in names)))


def is_loopback(host: str) -> bool:
    """Whether every address that the name stands for is this machine's own."""
    return all(ipaddress.ip_address(one).is_loopback for one in _resolved(host))


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
    _check(AUTH, *_parts(prefect))
    user, password = _parts(prefect)
    user, password = env.get(MLFLOW_USER) or user, env.get(MLFLOW_PASSWORD) or password
    _check(MLFLOW_PASSWORD, user, password)
    return Credentials(prefect, f"{user}:{password}")


def kept_secret(file: Path) -> str:
    """A secret that only this user can read, made once."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}-{os.getpid()}")
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_hex(32))
        part.replace(file)
    file.chmod(0o600)
    return file.read_text().strip()


def _resolved(host: str) -> list[str]:
    """Addresses of a host, IPv4 first.

    An empty name would mean every address to a server.
    """
    if not host.strip():
        raise ValueError("the host is empty; give an address or a name, such as 127.0.0.1")
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"the host {host!r} has no address ({error})") from None
    return [str(one[4][0]) for one in sorted(found, key=lambda one: one[0] != socket.AF_INET)]


def _own_addresses() -> list[str]:
    return [
        one.address
        for addresses in psutil.net_if_addrs().values()
        for one in addresses
        if one.family in (socket.AF_INET, socket.AF_INET6) and "%" not in one.address
    ]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _parts(auth: str) -> tuple[str, str]:
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise ValueError(f"{AUTH} is not of the form user:password")
    return user, password


def _check(name: str, user: str, password: str) -> None:
    weak = (
        len(password) < SHORTEST_PASSWORD
        or len(set(password)) < FEWEST_CHARACTERS
        or user.lower() in password.lower()
        or any(known in password.lower() for known in KNOWN)
    )
    if weak:
        raise ValueError(
            f"the password in {name} is too easy to guess; expected at least {SHORTEST_PASSWORD} "
            f"characters, {FEWEST_CHARACTERS} different ones, and neither the user's name nor a "
            "word such as 'password' (openssl rand -hex 16 makes a good one)"
        )
