"""The servers' two databases in a PostgreSQL server that is there already, named by its address."""

from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

DATABASES = {"prefect": "grokpath_prefect", "mlflow": "grokpath_mlflow"}
DRIVERS = {"prefect": "asyncpg", "mlflow": "psycopg2"}


def server_at(address: str) -> URL:
    """A PostgreSQL server; its `repr` hides the password.

    Raises
    ------
    ValueError
        When the address is not of the form `postgresql://user:password@host:port`.
    """
    try:
        url = make_url(address)
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
    """Create the two databases where they are missing.

    Raises
    ------
    ValueError
        When the driver is not installed, or the server cannot be reached or refuses.
    """
    psycopg2 = _driver()
    connection = None
    try:
        connection = psycopg2.connect(
            host=server.host,
            port=server.port,
            user=server.username,
            password=server.password,
            dbname="postgres",
            connect_timeout=5,
        )
        connection.autocommit = True
        cursor = connection.cursor()
        for name in DATABASES.values():
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f'CREATE DATABASE "{name}"')
    except psycopg2.Error as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{server!r} cannot be used ({reason}); its user needs the right to create the "
            f"databases {' and '.join(DATABASES.values())}, or to use them where they are there"
        ) from None
    finally:
        if connection is not None:
            connection.close()


def _driver() -> Any:
    try:
        import psycopg2
    except ImportError:
        raise ValueError(
            "PostgreSQL needs the Python package psycopg2: pip install -c constraints.txt "
            "-e '.[postgres]'"
        ) from None
    return psycopg2
