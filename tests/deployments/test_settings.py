"""What is refused before anything starts, and what servers with passwords refuse afterwards."""

import json
import subprocess
import sys

import pytest

from deployments import settings
from tests.operated import status, up_at
from tests.servers import CHECKOUT, environment

PASSWORD = "f3a91c07d2be4468"
KNOWN = f"lab:{PASSWORD}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "0", "192.0.2.7", "2001:db8::1"])
def test_others_can_reach_it_only_with_a_password(host):
    with pytest.raises(ValueError, match="PREFECT_SERVER_API_AUTH_STRING is not set"):
        settings.credentials(host, {})
    assert settings.credentials(host, {settings.AUTH: KNOWN}).mlflow == KNOWN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_none(host):
    assert settings.credentials(host, {}) is None
    assert settings.credentials(host, {settings.AUTH: KNOWN}).prefect == KNOWN


def test_a_name_that_also_means_another_machine_is_not_this_one(monkeypatch):
    both = [(2, 1, 6, "", (one, 0)) for one in ("127.0.0.1", "192.0.2.7")]
    monkeypatch.setattr(settings.socket, "getaddrinfo", lambda *_, **__: both)
    assert not settings.is_loopback("mixed.example")


@pytest.mark.parametrize("host", ["", "  "])
def test_an_empty_host_would_be_every_address(host):
    with pytest.raises(ValueError, match="the host is empty"):
        settings.address(host)


@pytest.mark.parametrize(
    "weak",
    ["lab:short", "lab:aaaaaaaaaaaaaaaa", "lab:my-password-2026!", "labuser:labuser-x7q9zz1"],
)
def test_a_password_easy_to_guess_is_refused_and_not_shown(weak):
    with pytest.raises(ValueError, match="too easy to guess") as error:
        settings.credentials("0.0.0.0", {settings.AUTH: weak})
    assert weak.partition(":")[2] not in str(error.value)


@pytest.mark.parametrize("auth", ["no-colon", ":f3a91c07d2be4468", "lab:"])
def test_what_is_no_user_and_password_is_refused(auth):
    with pytest.raises(ValueError, match="user:password"):
        settings.credentials("127.0.0.1", {settings.AUTH: auth})


def test_a_weak_password_of_mlflow_alone_is_refused():
    with pytest.raises(ValueError, match=settings.MLFLOW_PASSWORD):
        settings.credentials("0.0.0.0", {settings.AUTH: KNOWN, settings.MLFLOW_PASSWORD: "mlflow"})


def test_mlflow_may_have_a_user_of_its_own():
    env = {
        settings.AUTH: KNOWN,
        settings.MLFLOW_USER: "ana",
        settings.MLFLOW_PASSWORD: PASSWORD[::-1],
    }
    assert settings.credentials("0.0.0.0", env).mlflow == f"ana:{PASSWORD[::-1]}"


def test_a_secret_is_chosen_once_and_only_ours_to_read(tmp_path):
    file = tmp_path / "new" / "secret"
    first = settings.lasting_secret(file)
    assert len(first) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert settings.lasting_secret(file) == first


def test_the_command_refuses_and_starts_nothing(tmp_path):
    root = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "--root", str(root), "up", "--host", "0.0.0.0"],
        env=environment(tmp_path),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "PREFECT_SERVER_API_AUTH_STRING" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "prefect.db").exists()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A `grokpath up` with a password, on this machine's own address."""
    root = tmp_path_factory.mktemp("guarded") / "data"
    with up_at(root, "--no-workers", PREFECT_SERVER_API_AUTH_STRING=KNOWN) as up:
        yield up


@pytest.mark.parametrize("path", ["/api/version", "/api/work_pools/cpu", "/api/admin/version"])
def test_prefect_wants_the_password(guarded, path):
    url = guarded.prefect + path
    assert [status(url), status(url, "lab:wrong"), status(url, KNOWN)] == [401, 401, 200]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/2.0/mlflow/experiments/get?experiment_id=0",
        "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0",
        "/api/2.0/mlflow-artifacts/artifacts",
    ],
)
def test_mlflow_wants_the_password(guarded, path):
    url = guarded.mlflow + path
    assert [status(url), status(url, "lab:wrong"), status(url, KNOWN)] == [401, 401, 200]


def test_foreign_names_and_pages_are_refused_whatever_they_know(guarded):
    prefect, mlflow = f"{guarded.prefect}/api/version", f"{guarded.mlflow}/"
    assert status(prefect, KNOWN, host="evil.example") == 400
    assert status(mlflow, KNOWN, host="evil.example") == 403
    assert status(prefect, KNOWN, origin="http://evil.example") == 403
    search = f"{guarded.mlflow}/api/2.0/mlflow/experiments/search"
    asked = b'{"max_results": 1}'
    assert status(search, KNOWN, asked, origin="http://evil.example") == 403
    assert status(search, KNOWN, asked, origin=guarded.mlflow) == 200


def test_mlflow_runs_no_jobs(guarded):
    env = next(p.environ() for p in guarded.family() if "mlflow.server.auth" in str(p.cmdline()))
    assert env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert status(f"{guarded.mlflow}/ajax-api/3.0/jobs/any", KNOWN) == 404


def test_who_is_not_let_in_explicitly_sees_nothing(guarded):
    create = f"{guarded.mlflow}/api/2.0/mlflow/users/create"
    user = {"username": "guest", "password": "quite-long-guest-words"}
    assert status(create, KNOWN, json.dumps(user).encode()) == 200
    experiment = f"{guarded.mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert status(experiment, "guest:quite-long-guest-words") == 403


def test_the_password_stands_nowhere(guarded):
    arguments = [word for process in guarded.family() for word in process.cmdline()]
    assert not any(PASSWORD in word for word in arguments)
    kept = [file for file in guarded.root.rglob("*") if file.is_file()]
    assert not [file for file in [guarded.log, *kept] if PASSWORD.encode() in file.read_bytes()]
