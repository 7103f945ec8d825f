"""Both servers on a real PostgreSQL, and what is refused."""

import json
import os
import signal
import urllib.request

import pytest

from deployments.settings import DATABASES, address_of, create_databases, server_at
from tests.operated import up_at, wait_until_gone
from tests.throwaway_postgres import PASSWORD, execute


@pytest.mark.postgres
def test_a_server_is_given_the_two_databases(postgres):
    for _ in range(2):
        create_databases(server_at(postgres))
    found = {name for (name,) in execute(postgres, "postgres", "SELECT datname FROM pg_database")}
    assert found >= set(DATABASES.values())
    wrong = server_at(postgres.replace(PASSWORD, "not-that-one"))
    with pytest.raises(ValueError, match="cannot be used") as error:
        create_databases(wrong)
    assert "not-that-one" not in str(error.value)
    assert "not-that-one" not in repr(wrong)


@pytest.mark.postgres
def test_both_servers_use_it_and_nothing_is_lost_by_a_kill(postgres, tmp_path):
    root = tmp_path / "data"
    with up_at(root, GROKPATH_DATABASE_URL=postgres) as up:
        family = up.family()
        words = [word for process in family for word in process.cmdline()]
        assert not any(PASSWORD in word for word in words)
        change_card_limit(up.prefect, 7)
        os.kill(up.process.pid, signal.SIGKILL)
        wait_until_gone(family)
    assert not (root / "prefect.db").exists()
    assert not (root / "mlflow.db").exists()
    logs = [*root.glob("logs/*"), up.log]
    assert not [log for log in logs if PASSWORD in log.read_text(errors="replace")]

    pools = execute(postgres, DATABASES["prefect"], "SELECT name FROM work_pool")
    assert {("cpu",), ("gpu",)} <= set(pools)
    limit = "SELECT \"limit\" FROM concurrency_limit_v2 WHERE name = 'gpu'"
    assert execute(postgres, DATABASES["prefect"], limit) == [(7,)]
    assert ("Default",) in execute(postgres, DATABASES["mlflow"], "SELECT name FROM experiments")

    with up_at(root, GROKPATH_DATABASE_URL=postgres) as up:
        assert card_limit(up.prefect)["limit"] == 7
        family = up.family()
        up.process.terminate()
        assert up.process.wait(60) == 0
        wait_until_gone(family)
    assert execute(postgres, DATABASES["prefect"], limit) == [(7,)]


@pytest.mark.parametrize(
    "address",
    ["mysql://a:b@host", "postgresql://host:5432", "somewhere", "postgresql://a:b@host:port"],
)
def test_an_address_of_something_else_is_refused(address):
    with pytest.raises(ValueError, match="postgresql://user"):
        server_at(address)


def test_a_password_with_signs_survives_the_address():
    server = server_at("postgresql://me:p%40ss%2Fw%3Ard@db.example:6000")
    assert server.password == "p@ss/w:rd"
    assert address_of("prefect", server) == (
        "postgresql+asyncpg://me:p%40ss%2Fw%3Ard@db.example:6000/grokpath_prefect"
    )


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
