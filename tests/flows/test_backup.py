"""A backup made while runs go on is put back whole, or not at all."""

import json
import multiprocessing
import os
import resource
import shutil
import sqlite3
import tarfile
import tempfile
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from store import artifacts, journal, uses
from store.backup import MANIFEST, BackupError, Hashing, make_backup
from store.restore import restore_backup
from tests.servers import prefect_at


def grokpath(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def contents(folder):
    """Every file with its bytes, every link with its target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = path.readlink().as_posix()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def state(root):
    """A data root of a few files: an artifact, results, MLflow's database and files."""
    key = "a" * 20
    with artifacts.draft("warehouse", 1, key, resumable=False) as out:
        (out / "warehouse.duckdb").write_bytes(b"numbers" * 10_000)
        made = artifacts.commit(
            out,
            step_name="warehouse",
            version=1,
            fingerprint=key,
            inputs={},
            summary={},
            started_at=datetime.now(UTC),
            device="cpu",
        )
    (root / "mine").mkdir()
    (root / "mine" / "warehouse.duckdb").symlink_to(
        os.path.relpath(made.path / "warehouse.duckdb", root / "mine")
    )
    with closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        ):
            connection.execute(f"CREATE TABLE {table} ({column} TEXT)")
            address = (root.resolve() / "mlartifacts" / "1").as_uri()
            connection.execute(f"INSERT INTO {table} VALUES (?)", (address,))
    (root / "mlartifacts").mkdir()
    (root / "mlartifacts" / "page.html").write_text("<html>")
    (root / "seen").mkdir()
    (root / "seen" / "folder.json").write_text("{}")
    (root / "secrets").mkdir()
    (root / "secrets" / "mlflow").write_text("a password")
    journal.note("made", artifact="warehouse")
    uses.began("run", "mine", "spec")
    return root


def test_everything_comes_back(copied, smoke, prefect_server, tmp_path):
    from mlflow import MlflowClient
    from prefect import flow

    from flows.study import study_flow

    flow(lambda: None, name="remembered")()
    destination = tmp_path / "backups" / "whole.tar"
    made = grokpath("backup", "--artifacts", destination)
    assert made.exit_code == 0, made.output
    assert [path.name for path in destination.parent.iterdir()] == ["whole.tar"]
    assert destination.stat().st_mode & 0o077 == 0
    shutil.rmtree(copied)

    restored = grokpath("restore", destination)
    assert restored.exit_code == 0, restored.output
    assert grokpath("verify").exit_code == 0
    lines = list(journal.read())
    study_flow(smoke)
    assert list(journal.read()) == lines
    assert grokpath("sql", "--study", "smoke", "select count(*) from curves").exit_code == 0
    client = MlflowClient(f"sqlite:///{copied / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("smoke")
    assert len(client.search_runs([experiment.experiment_id])) == 14  # the study, 13 checkpoints
    database = f"sqlite+aiosqlite:///{copied / 'prefect.db'}"
    settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
    with prefect_at(tmp_path / "home", **settings) as api_url:
        asked = urllib.request.Request(
            f"{api_url}/flows/filter", data=b"{}", headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked) as answer:
            assert "remembered" in {found["name"] for found in json.load(answer)}


def test_without_artifacts_the_results_and_the_records_come_back(copied, tmp_path):
    num_artifacts = len(list(artifacts.all_artifacts()))
    assert grokpath("backup", tmp_path / "small").exit_code == 0
    shutil.rmtree(copied)
    assert grokpath("restore", tmp_path / "small").exit_code == 0
    assert grokpath("sql", "--study", "smoke", "select count(*) from curves").exit_code == 0
    assert (copied / "smoke" / "report.html").is_file()
    there = len(list(artifacts.all_artifacts()))
    assert there == 2
    assert len(list((copied / "records").rglob("*.json"))) == num_artifacts - there
    assert grokpath("verify").exit_code == 0


def test_a_restore_elsewhere_moves_the_addresses_of_files(state, tmp_path, monkeypatch):
    make_backup(tmp_path / "b", with_artifacts=True)
    monkeypatch.setenv("GROKPATH_ROOT", str(tmp_path / "elsewhere"))
    restore_backup(tmp_path / "b", replace=False)
    with closing(sqlite3.connect(tmp_path / "elsewhere" / "mlflow.db")) as connection:
        for table in ("experiments", "runs", "logged_models"):
            (address,) = connection.execute(f"SELECT * FROM {table}").fetchone()
            assert address == (tmp_path / "elsewhere" / "mlartifacts" / "1").as_uri()


def test_what_is_remembered_is_in_it_and_what_is_secret_is_not(state, tmp_path):
    make_backup(tmp_path / "b", with_artifacts=True)
    shutil.rmtree(state)
    restore_backup(tmp_path / "b", replace=False)
    assert (state / "seen" / "folder.json").read_text() == "{}"
    assert (state / "mine" / "warehouse.duckdb").read_bytes()[:7] == b"numbers"
    assert [run.name for run in uses.all_runs()] == ["run"]
    assert not (state / "secrets").exists()
    assert b"a password" not in b"".join(
        path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file()
    )


def test_a_database_that_is_being_written_is_copied_as_last_committed(state, tmp_path):
    with closing(sqlite3.connect(state / "mlflow.db")) as writer:
        writer.execute("INSERT INTO runs VALUES ('committed')")
        writer.commit()
        writer.execute("INSERT INTO runs VALUES ('not yet')")
        make_backup(tmp_path / "b", with_artifacts=True)
        writer.commit()
    with closing(sqlite3.connect(tmp_path / "b" / "root" / "mlflow.db")) as copy:
        rows = [row for (row,) in copy.execute("SELECT * FROM runs")]
    assert rows[1:] == ["committed"]


def spoil_bytes(folder):
    file = next((folder / "root" / "artifacts").rglob("*.duckdb"))
    content = bytearray(file.read_bytes())
    content[17] ^= 1
    file.write_bytes(bytes(content))


def spoil_manifest(folder):
    file = folder / MANIFEST
    file.write_bytes(file.read_bytes()[:-200])


def spoil_name(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["../../evil"] = manifest["files"].pop("root/mlflow.db")
    (folder / MANIFEST).write_text(json.dumps(manifest))


def spoil_link(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["links"]["mine/out"] = "../../outside"
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_bytes, "warehouse.duckdb has changed"),
        (spoil_manifest, "cannot be read"),
        (spoil_name, "leads out of the backup"),
        (spoil_link, "leads out of the backup"),
        (lambda folder: (folder / "root" / "mlflow.db").unlink(), "mlflow.db is missing"),
        (lambda folder: (folder / "root" / "more").touch(), "root/more does not belong here"),
        (lambda folder: (folder / MANIFEST).unlink(), "no backup, or not a whole one"),
        (shutil.rmtree, "there is no backup"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_damaged_backup_is_refused_and_the_root_is_as_before(state, tmp_path, spoil, told, there):
    make_backup(tmp_path / "b", with_artifacts=True)
    if not there:
        shutil.rmtree(state)
    spoil(tmp_path / "b")
    before = contents(state)
    refused = grokpath("restore", "--replace", tmp_path / "b")
    assert refused.exit_code == 1
    assert told in refused.stderr
    assert contents(state) == before
    assert state.exists() == there
    assert {path.name for path in tmp_path.iterdir()} <= {"b", "data"}


@pytest.mark.parametrize("num_bytes", [0, 100, 5000, -1, -20_000])
def test_a_tar_that_was_cut_is_refused(state, tmp_path, num_bytes):
    make_backup(tmp_path / "b.tar", with_artifacts=True)
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:num_bytes])
    before = contents(state)
    if num_bytes == -1:  # the padding at the end says nothing
        restore_backup(tmp_path / "b.tar", replace=True)
        return
    with pytest.raises(BackupError):
        restore_backup(tmp_path / "b.tar", replace=True)
    assert contents(state) == before


def test_a_tar_holds_files_only(state, tmp_path):
    make_backup(tmp_path / "b.tar", with_artifacts=True)
    with tarfile.open(tmp_path / "b.tar", "a") as tar:
        evil = tarfile.TarInfo("root/link")
        evil.type, evil.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(evil)
    with pytest.raises(BackupError, match="root/link does not belong here"):
        restore_backup(tmp_path / "b.tar", replace=True)


def back_up_with(how, root, destination):
    """Killed in the middle, or where no file can be larger than so many bytes."""
    os.environ["GROKPATH_ROOT"] = str(root)
    if how == "killed":
        real, count = Hashing.read, [0]

        def read(self, size=-1):
            count[0] += 1
            if count[0] == 4:
                os._exit(9)
            return real(self, size)

        Hashing.read = read
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (how, how))
    try:
        make_backup(Path(destination), with_artifacts=True)
    except (OSError, BackupError):
        os._exit(3)


@pytest.mark.parametrize("name", ["b", "b.tar"])
@pytest.mark.parametrize(("how", "code"), [("killed", 9), (9_000, 3), (50_000, 3)])
def test_what_is_not_whole_has_no_name_of_a_backup(state, tmp_path, name, how, code):
    place = tmp_path / "backups"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=back_up_with, args=(how, state, place / name))
    process.start()
    process.join(120)
    assert process.exitcode == code
    left = [path for path in place.iterdir() if not path.name.startswith(".")]
    assert left == []
    if how != "killed":
        assert list(place.iterdir()) == []
    for path in place.iterdir():
        with pytest.raises(BackupError):
            restore_backup(path, replace=True)
    make_backup(place / name, with_artifacts=True)
    restore_backup(place / name, replace=True)


def restore_killed_at(moment, root, source):
    os.environ["GROKPATH_ROOT"] = str(root)
    real, count = Path.rename, [0]

    def rename(self, target):
        if count[0] == moment:
            os._exit(9)
        count[0] += 1
        return real(self, target)

    Path.rename = rename
    restore_backup(Path(source), replace=True)


@pytest.mark.parametrize("moment", [0, 1])
def test_a_restore_that_is_killed_leaves_a_whole_root(state, tmp_path, moment):
    make_backup(tmp_path / "b", with_artifacts=True)
    (state / "journal.jsonl").write_text("")
    before = contents(state)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=restore_killed_at, args=(moment, state, tmp_path / "b"))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    former = state if moment == 0 else next(tmp_path.glob("data.replaced-*"))
    assert contents(former) == before
    assert state.exists() == (moment == 0)  # between the two renames: nothing, rather than a half
    restore_backup(tmp_path / "b", replace=True)
    assert (state / "journal.jsonl").read_text() != ""


def test_what_is_there_stays_unless_told_and_is_set_aside_then(state, tmp_path):
    make_backup(tmp_path / "b", with_artifacts=True)
    (state / "more.txt").write_text("precious")
    refused = grokpath("restore", tmp_path / "b")
    assert refused.exit_code == 1
    assert "not empty" in refused.stderr
    with uses.gate_open():
        assert grokpath("restore", "--replace", tmp_path / "b").exit_code == 1
    assert (state / "more.txt").exists()
    assert grokpath("restore", "--replace", tmp_path / "b").exit_code == 0
    assert not (state / "more.txt").exists()
    (former,) = tmp_path.glob("data.replaced-*")
    assert (former / "more.txt").read_text() == "precious"


def test_backups_are_not_overwritten_nor_put_into_the_root(state, tmp_path):
    (tmp_path / "b").write_text("an older one")
    assert "there already" in grokpath("backup", tmp_path / "b").stderr
    assert (tmp_path / "b").read_text() == "an older one"
    assert "in the data root itself" in grokpath("backup", state / "b").stderr
    next((state / "artifacts").rglob("*.duckdb")).write_text("damaged")
    damaged = grokpath("backup", tmp_path / "c")
    assert damaged.exit_code == 1
    assert "is damaged" in damaged.stderr
    assert not (tmp_path / "c").exists()


@pytest.fixture
def open_place():
    """A folder that every user may enter: root runs PostgreSQL as another one."""
    with tempfile.TemporaryDirectory(prefix="grokpath-postgres-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.postgres
def test_postgres_databases_come_back(state, open_place, monkeypatch):
    psycopg2 = pytest.importorskip("psycopg2")
    from deployments import postgres

    base = open_place
    shutil.copytree(state, base / "data", symlinks=True)
    monkeypatch.setenv("GROKPATH_ROOT", str(base / "data"))
    try:
        postgres.programs_for(base)
    except ValueError as error:
        pytest.skip(str(error))

    def ask(server, name, *statements):
        with closing(
            psycopg2.connect(
                host=server.host,
                port=server.port,
                user=server.user,
                password=server.password,
                dbname=name,
            )
        ) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    with postgres.our_server(base / "data", base / "log") as server:
        postgres.make_databases(server)
        for name in postgres.DATABASES.values():
            ask(
                server, name, "CREATE TABLE runs (name text)", f"INSERT INTO runs VALUES ('{name}')"
            )
        made = grokpath("backup", base / "running.tar")  # while it runs
        assert made.exit_code == 0, made.output
    assert grokpath("backup", base / "stopped").exit_code == 0  # started for the meantime
    monkeypatch.setenv("GROKPATH_ROOT", str(base / "new"))
    assert grokpath("restore", base / "running.tar").exit_code == 0
    assert grokpath("restore", "--replace", base / "stopped").exit_code == 0
    with postgres.our_server(base / "new", base / "log") as server:
        for name in postgres.DATABASES.values():
            assert ask(server, name, "SELECT * FROM runs") == [(name,)]
