"""The PostgreSQL databases of a data folder, dumped for a backup and loaded from one."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from deployments import postgres
from deployments.postgres import DATABASES, Server

URL = "GROKPATH_DATABASE_URL"


@contextmanager
def dumped(root: Path) -> Iterator[dict[str, Path]]:
    """Dumps by name of the database; none where no PostgreSQL is used.

    The server is the one that `grokpath up` runs or, if it does not run, is started meanwhile; or
    the one in GROKPATH_DATABASE_URL.

    Raises
    ------
    ValueError
        When it cannot be reached, or pg_dump fails.
    """
    url = os.environ.get(URL)
    if not url and not (root / "postgres" / "data" / "PG_VERSION").exists():
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="grokpath-dumps-") as folder:
        place = Path(folder)
        found = nullcontext(postgres.other_server(url)) if url else _ours(root, place / "log")
        with found as server:
            dumps = {name: place / name for name in DATABASES.values()}
            for name, file in dumps.items():
                _call(
                    root, server, "pg_dump", "--format", "custom", "--file", file, "--dbname", name
                )
        yield dumps


def load_dumps(root: Path, dumps: dict[str, Path]) -> None:
    """Load dumps into a new PostgreSQL of the data folder, which is stopped again.

    Raises
    ------
    ValueError
        When pg_restore fails.
    """
    with (
        tempfile.TemporaryDirectory(prefix="grokpath-dumps-") as folder,
        postgres.our_server(root, Path(folder) / "log") as server,
    ):
        postgres.make_databases(server)
        for name, file in dumps.items():
            whole = ("--exit-on-error", "--single-transaction", "--no-owner")
            _call(root, server, "pg_restore", *whole, "--dbname", name, file)


@contextmanager
def _ours(root: Path, log: Path) -> Iterator[Server]:
    """Our server, as it runs or for the meantime."""
    running = postgres.running_server(root)
    if running is not None:
        yield running
        return
    with postgres.our_server(root, log) as server:
        yield server


def _call(root: Path, server: Server, program: str, *words: str | Path) -> None:
    place = ("--host", server.host.strip("[]"), "--port", str(server.port))
    programs = postgres.programs_for(root / "postgres" / "data")
    command = [programs / program, *place, "--username", server.user, *words]
    done = subprocess.run(
        command,
        env={**os.environ, "PGPASSWORD": server.password},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{program} of {server!r} failed: {done.stderr.strip()}")
