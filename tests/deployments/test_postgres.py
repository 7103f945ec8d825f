"""Both servers on a real PostgreSQL of their own, and what is said when that cannot be."""

import json
import os
import signal
import tempfile
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from deployments import postgres
from deployments.postgres import DATABASES, USER, other_server
from tests.operated import up_at, wait_until_gone

NOT_HERE = "PostgreSQL's server programs are not installed"


def installed():
    try:
        postgres.programs_for(Path("nowhere"))
    except ValueError:
        return False
    return True


needs_postgres = pytest.mark.skipif(not installed(), reason=NOT_HERE)


def ask(server, database, query):
    import psycopg2

    address = server.url("", database).replace("postgresql+:", "postgresql:")
    with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return {row[0] for row in cursor.fetchall()}


@pytest.fixture
def reachable():
    """A folder that the user who runs PostgreSQL for root can enter; pytest's own it cannot."""
    with tempfile.TemporaryDirectory(prefix="grokpath-postgres-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.postgres
@needs_postgres
def test_both_servers_use_it_and_nothing_is_lost_by_a_kill(reachable):
    root = reachable / "data"
    with up_at(root, "--postgres") as up:
        password = (root / "postgres" / "password").read_text().strip()
        assert (root / "postgres" / "password").stat().st_mode & 0o777 == 0o600
        family = up.family()
        assert any("postgres" in process.name() for process in family)
        words = [word for process in family for word in process.cmdline()]
        assert not any(password in word for word in words)
        change_card_limit(up.prefect, 7)
        os.kill(up.process.pid, signal.SIGKILL)
        wait_until_gone(family)
    assert not (root / "prefect.db").exists()
    assert not (root / "mlflow.db").exists()
    logs = [*root.glob("logs/*"), up.log]
    assert not [log for log in logs if password in log.read_text(errors="replace")]

    log = reachable / "postgres.log"
    with postgres.our_server(root, log) as server:
        assert ask(server, DATABASES["prefect"], "SELECT name FROM work_pool") >= {"cpu", "gpu"}
        limits = "SELECT \"limit\" FROM concurrency_limit_v2 WHERE name = 'gpu'"
        assert ask(server, DATABASES["prefect"], limits) == {7}
        assert "Default" in ask(server, DATABASES["mlflow"], "SELECT name FROM experiments")

    with up_at(root, "--postgres") as up:
        assert card_limit(up.prefect)["limit"] == 7
        family = up.family()
        up.process.terminate()
        assert up.process.wait(60) == 0
        wait_until_gone(family)
    assert not (root / "postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.postgres
@needs_postgres
def test_one_that_runs_already_is_given_the_two_databases(reachable):
    with postgres.our_server(reachable, reachable / "log") as ours:
        found = other_server(f"postgresql://{USER}:{ours.password}@127.0.0.1:{ours.port}")
        for _ in range(2):
            postgres.make_databases(found)
        assert ask(ours, "postgres", "SELECT datname FROM pg_database") >= set(DATABASES.values())
        wrong = other_server(f"postgresql://{USER}:not-that-one@127.0.0.1:{ours.port}/")
        with pytest.raises(ValueError, match="cannot be used") as error:
            postgres.make_databases(wrong)
        assert "not-that-one" not in str(error.value)
        assert "not-that-one" not in repr(wrong)


@pytest.mark.parametrize("url", ["mysql://a:b@host", "postgresql://host:5432", "somewhere"])
def test_an_address_of_something_else_is_refused(url):
    with pytest.raises(ValueError, match="postgresql://user"):
        other_server(url)


def test_a_password_with_signs_survives_the_address():
    server = other_server("postgresql://me:p%40ss%2Fw%3Ard@db.example:6000")
    assert server.password == "p@ss/w:rd"
    assert server.url("asyncpg", "x") == "postgresql+asyncpg://me:p%40ss%2Fw%3Ard@db.example:6000/x"


def test_missing_programs_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="apt-get install postgresql"):
        postgres.programs_for(tmp_path)


@pytest.mark.postgres
@needs_postgres
@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_a_folder_closed_to_the_other_user_is_said_so(reachable):
    closed = reachable / "closed"
    closed.mkdir(mode=0o700)
    with (
        pytest.raises(ValueError, match="must be able to enter"),
        postgres.our_server(closed, reachable / "log"),
    ):
        pass


def card_limit(url):
    with urllib.request.urlopen(f"{url}/api/v2/concurrency_limits/gpu", timeout=20) as answer:
        return json.load(answer)


def change_card_limit(url, limit):
    request = urllib.request.Request(
        f"{url}/api/v2/concurrency_limits/gpu",
        json.dumps({"limit": limit}).encode(),
        {"Content-Type": "application/json"},
        method="PATCH",
    )
    urllib.request.urlopen(request, timeout=20).close()
