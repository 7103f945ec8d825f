"""A real PostgreSQL server for tests, in a folder that is gone afterwards."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.servers import free_port

USER, PASSWORD = "grokpath", "d41c9f07be22a6"
SETTINGS = "-c listen_addresses=127.0.0.1 -c unix_socket_directories="


@contextmanager
def postgres_server() -> Iterator[str]:
    """A server that wants a password; its address. Skips the test where the programs are missing.

    They refuse to run as root, so root runs them as the user `postgres`.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL's server programs are not installed")
    user = {"user": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="grokpath-postgres-") as folder:
        data, password, port = f"{folder}/data", Path(folder, "password"), free_port()
        password.write_text(PASSWORD)
        if user:
            shutil.chown(folder, "postgres")

        def call(program: str, *words: str) -> None:
            command = [str(found[-1] / program), "--pgdata", data, *words]
            subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, **user)

        auth = ("--username", USER, "--auth", "scram-sha-256", "--pwfile", str(password))
        call("initdb", "--no-sync", *auth)
        call("pg_ctl", "start", "--log", f"{folder}/log", "--options", f"-p {port} {SETTINGS}")
        try:
            yield f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "stop", "--mode", "immediate")


def execute(server: str, database: str, *statements: str) -> list[tuple]:
    """Execute statements, each for itself; the rows of the last one."""
    import psycopg2

    with closing(psycopg2.connect(f"{server}/{database}")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
