"""The commands of docs/backup.md, followed: the copy and what is restored from it verify."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.settings import DATABASES, create_databases, server_at
from store import artifacts
from tests.servers import CHECKOUT
from tests.throwaway_postgres import execute

COPY, RESTORE = (
    re.findall(r"```bash\n(.*?)```", part, flags=re.DOTALL)
    for part in (CHECKOUT / "docs" / "backup.md").read_text(encoding="utf-8").split("## Restore")
)
MLFLOW_PATHS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
}


def is_meant_for(block, programs):
    """Whether a block of the page is for a machine with these programs."""
    condition = re.match(r"# (with|without) (\w+)\n", block)
    return condition is None or (condition[1] == "with") == (condition[2] in programs)


def follow(blocks, programs, home, server=(), **places):
    """Run the blocks as one script, with the folders of the page set to ours."""
    script = "\n".join(block for block in blocks if is_meant_for(block, programs))
    for name, path in places.items():
        script, num_set = re.subn(rf"^{name}=\S+", f"{name}={path}", script, flags=re.MULTILINE)
        assert num_set == 1, name
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", script],
        env={**os.environ, **dict(server), "PATH": path, "PYTHONPATH": str(CHECKOUT)},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def state(root):
    """A data folder of a few files: an artifact, a link to it, databases, MLflow's files."""
    key = "a" * 20
    with artifacts.draft("warehouse", 1, key, resumable=False) as out:
        (out / "warehouse.duckdb").write_bytes(b"numbers" * 10_000)
        written = artifacts.commit(
            out,
            step_name="warehouse",
            version=1,
            fingerprint=key,
            inputs={},
            summary={},
            started_at=datetime.now(UTC),
            device="cpu",
        )
    (written.path.parent / ".draft-v1-unfinished").mkdir()
    for name in ("mine", "mlartifacts", "prefect", "secrets", "logs", "uses"):
        (root / name).mkdir()
    target = os.path.relpath(written.path / "warehouse.duckdb", root / "mine")
    (root / "mine" / "warehouse.duckdb").symlink_to(target)
    for name in ("mlartifacts/page.html", "secrets/mlflow", "logs/cpu.log", "uses/run.jsonl"):
        (root / name).write_text(name)
    for name in ("mlflow.db", "prefect.db", "prefect/prefect.db"):
        with closing(sqlite3.connect(root / name)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            for table, column in MLFLOW_PATHS.items():
                connection.execute(f"CREATE TABLE {table} ({column} TEXT)")
                place = (root / "mlartifacts").as_uri()
                connection.execute(f"INSERT INTO {table} VALUES (?)", (place,))
    return root


@pytest.mark.parametrize("programs", [(), ("sqlite3", "rsync")], ids=["without", "with"])
def test_a_copy_verifies_and_so_does_what_is_restored(state, tmp_path, programs):
    # What is not there is tested where it is; no machine lacks bash, cp and Python.
    programs = [program for program in programs if shutil.which(program)]
    copy, new = tmp_path / "copy", tmp_path / "new"
    with closing(sqlite3.connect(state / "mlflow.db")) as writer:
        writer.execute("INSERT INTO runs VALUES ('committed')")
        writer.commit()
        writer.execute("INSERT INTO runs VALUES ('not yet')")
        for _ in range(2):
            done = follow(COPY, programs, tmp_path, ROOT=state, COPY=copy)
            assert done.returncode == 0, done.stdout + done.stderr
        writer.commit()
    assert "1 artifacts" in done.stdout
    assert copy.stat().st_mode & 0o077 == 0
    assert not [*copy.glob("artifacts/*/.draft-*"), *copy.glob("secrets"), *copy.glob("logs")]

    done = follow([COPY[0], *RESTORE], programs, tmp_path, COPY=copy, NEW=new, OLD=state)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (new / "mine" / "warehouse.duckdb").read_bytes() == b"numbers" * 10_000
    assert (new / "uses" / "run.jsonl").read_text() == "uses/run.jsonl"
    for name in ("mlflow.db", "prefect.db", "prefect/prefect.db"):
        with closing(sqlite3.connect(new / name)) as restored:
            assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(new / "mlflow.db")) as restored:
        rows = {name: restored.execute(f"SELECT * FROM {name}").fetchall() for name in MLFLOW_PATHS}
    place = ((new / "mlartifacts").as_uri(),)
    assert rows == {
        "experiments": [place],
        "runs": [place, ("committed",)],
        "logged_models": [place],
    }


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_changed_or_missing_file_of_the_copy_is_found(state, tmp_path, damage):
    copy = tmp_path / "copy"
    assert follow(COPY, (), tmp_path, ROOT=state, COPY=copy).returncode == 0
    file = next((copy / "artifacts").rglob("*.duckdb"))
    content = bytearray(file.read_bytes())
    content[17] ^= 1
    file.unlink()
    if damage == "changed":
        file.write_bytes(content)
    found = follow([COPY[0], COPY[-1]], (), tmp_path, COPY=copy)
    assert found.returncode == 1
    assert "warehouse.duckdb" in found.stdout


@pytest.mark.postgres
@pytest.mark.skipif(not shutil.which("pg_dump"), reason="pg_dump is not installed")
def test_databases_in_postgresql_come_back(state, tmp_path, postgres):
    url = server_at(postgres)
    create_databases(url)
    for name in DATABASES.values():
        row = f"INSERT INTO runs VALUES ('{name}')"
        execute(postgres, name, "CREATE TABLE runs (name text)", row)
    server = {
        "PGHOST": url.host,
        "PGPORT": str(url.port),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
    }
    copy, new = tmp_path / "copy", tmp_path / "new"
    done = follow(COPY, ("pg_dump",), tmp_path, server, ROOT=state, COPY=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in DATABASES.values():
        execute(postgres, "postgres", f"DROP DATABASE {name}")
    blocks = [COPY[0], *RESTORE]
    done = follow(blocks, ("pg_dump",), tmp_path, server, COPY=copy, NEW=new, OLD=state)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in DATABASES.values():
        assert execute(postgres, name, "SELECT * FROM runs") == [(name,)]
