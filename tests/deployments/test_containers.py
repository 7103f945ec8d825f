"""Containers without a container engine: every file against its own schema or parser, and the
commands of the services for real."""

import asyncio
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from deployments import services
from tests.operated import status
from tests.servers import CHECKOUT, environment, free_port, running, wait_for

HERE = CHECKOUT / "deployments"
COMPOSE = yaml.safe_load((HERE / "compose.yaml").read_text())
TEMPLATE = json.loads((HERE / "kubernetes" / "base_job_template.json").read_text())
PASSWORD = "3f9c17ab52d04e86"
SET = {
    "GROKPATH_AUTH": f"ann:{PASSWORD}",
    "GROKPATH_POSTGRES_PASSWORD": "aa11bb22cc33dd44",
    "GROKPATH_MLFLOW_KEY": "00112233445566778899aabb",
}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<word>[^}]*))?\}")


def in_venv(*words):
    """Run a program of this environment; what came of it."""
    program = Path(sys.executable).with_name(words[0])
    return subprocess.run(
        [program, *words[1:]], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )


# ---------------------------------------------------------------- files


def test_compose_file_follows_the_specification():
    done = in_venv(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deployments/compose.yaml"
    )
    assert done.returncode == 0, done.stdout


def test_dockerfile_passes_the_linter():
    done = in_venv("hadolint", "--failure-threshold", "style", "deployments/Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_image_gets_what_it_copies():
    """What .dockerignore lets through is there, and is what the package consists of."""
    allowed = {
        line[1:]
        for line in (CHECKOUT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert all((CHECKOUT / name).exists() for name in allowed)
    rooms = re.search(r"^include = (\[.*\])$", (CHECKOUT / "pyproject.toml").read_text(), re.M)
    assert {name.rstrip("*") for name in json.loads(rooms.group(1))} <= allowed


def test_ports_are_published_on_loopback_only():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_has_a_default():
    text = (HERE / "compose.yaml").read_text()
    secret = [m for m in VARIABLE.finditer(text) if m["name"] in SET]
    assert {m["name"] for m in secret} == set(SET)
    assert all(m["how"] == "?" for m in secret)


def test_every_server_is_watched_and_waited_for():
    services = COMPOSE["services"]
    awaited = {
        name
        for service in services.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert awaited == {"postgres", "prefect", "mlflow"}
    assert all("healthcheck" in services[name] for name in awaited)


# ---------------------------------------------------------------- services


def told(service, **instead):
    """Environment of a service as compose would make it, with some things of this machine."""

    def look_up(match):
        found = {**SET}.get(match["name"]) or (match["word"] if match["how"] == "-" else None)
        assert found is not None, f"{match['name']} is not set"
        return found

    given = COMPOSE["services"][service]["environment"]
    return {name: VARIABLE.sub(look_up, value) for name, value in given.items()} | instead


def command(service):
    words = COMPOSE["services"][service]["command"]
    assert words[0] == "python"
    return [sys.executable, *words[1:]]


def is_healthy(service, env, port):
    """What the service's own check says, asked where it listens here."""
    kind, _, *words = COMPOSE["services"][service]["healthcheck"]["test"]
    assert kind == "CMD"
    words = [re.sub(r":(4200|5000)", f":{port}", word) for word in words]
    return subprocess.run([sys.executable, *words], cwd=CHECKOUT, env=env, check=False)


def test_prefect_starts_answers_its_check_and_wants_the_password(tmp_path):
    port = free_port()
    env = environment(
        tmp_path,
        **told(
            "prefect",
            PREFECT_SERVER_API_HOST="127.0.0.1",
            PREFECT_SERVER_API_PORT=str(port),
            PREFECT_SERVER_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{tmp_path}/prefect.db",
        ),
    )
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    with running(command("prefect"), env, log) as process:
        wait_for(f"{url}/api/health", process, log)
        assert is_healthy("prefect", env, port).returncode == 0
        assert status(f"{url}/api/admin/version", SET["GROKPATH_AUTH"]) == 200
        assert status(f"{url}/api/admin/version", "ann:wrong") == 401
    assert PASSWORD not in log.read_text()


def test_mlflow_starts_answers_its_check_and_wants_the_password(tmp_path):
    port = free_port()
    settings = tmp_path / "auth.ini"
    settings.write_text(
        COMPOSE["configs"]["mlflow-auth"]["content"].replace("/data/", f"{tmp_path}/")
    )
    env = environment(
        tmp_path,
        **told(
            "mlflow",
            MLFLOW_HOST="127.0.0.1",
            MLFLOW_PORT=str(port),
            MLFLOW_BACKEND_STORE_URI=f"sqlite:///{tmp_path}/mlflow.db",
            MLFLOW_ARTIFACTS_DESTINATION=str(tmp_path / "mlartifacts"),
            MLFLOW_AUTH_CONFIG_PATH=str(settings),
        ),
    )
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    experiments = f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0"
    with running(command("mlflow"), env, log) as process:
        wait_for(f"{url}/health", process, log)
        assert is_healthy("mlflow", env, port).returncode == 0
        assert status(experiments, SET["GROKPATH_AUTH"]) == 200
        assert status(experiments, "ann:wrong") == 401
    assert PASSWORD not in log.read_text()


@pytest.mark.parametrize("auth", ["", "ann", "ann:password1234", "ann:short"])
def test_no_service_starts_without_a_good_password(auth):
    for service in ("prefect", "mlflow", "register", "worker"):
        env = {**os.environ, **told(service), "PREFECT_SERVER_API_AUTH_STRING": auth}
        done = subprocess.run(
            command(service), cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith("failed: ")
        assert "Traceback" not in done.stderr


def test_services_become_commands_that_exist(monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", SET["GROKPATH_AUTH"])
    for words in (["worker", "cpu"], ["register", "--cards", "2"]):
        module, client = services.service(words)
        assert client["MLFLOW_TRACKING_PASSWORD"] == PASSWORD
        done = subprocess.run(
            [sys.executable, "-m", *module, "--help"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    with pytest.raises(ValueError, match="no service 'postgres'; expected prefect, mlflow"):
        services.service(["postgres"])


# ---------------------------------------------------------------- Kubernetes


def manifest(**chosen):
    """The job of a flow run, made from our template by Prefect's own code."""

    async def rendered():
        made = await KubernetesWorkerJobConfiguration.from_template_and_values(
            base_job_template=TEMPLATE, values=chosen
        )
        made.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="little"))
        return made.job_manifest

    return asyncio.run(rendered())


def check(job):
    """Strictly against Kubernetes' schema, but for two fields.

    Prefect wants `parallelism` and `completions` in the pod (prefect-kubernetes 0.8.0), where
    Kubernetes does not know them and drops them.
    """
    pod = job["spec"]["template"]["spec"]
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    return pod


def test_the_job_of_a_flow_run_is_valid():
    pod = check(manifest())
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "grokpath-data"
    assert container["envFrom"] == [{"secretRef": {"name": "grokpath"}}]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["args"][-3:] == ["prefect", "flow-run", "execute"]


def test_every_variable_of_the_template_counts():
    chosen = {
        "image": "registry.example/grokpath:1",
        "namespace": "elsewhere",
        "gpus": 4,
        "cpus": "16",
        "memory": "128Gi",
        "node_selector": {"nvidia.com/gpu.product": "H100"},
        "data_claim": "other-data",
        "secret": "other-secret",
        "service_account_name": "runner",
        "env": {"GROKPATH_TASK_RUNNER": "dask"},
    }
    pod = check(manifest(**chosen))
    text = json.dumps(pod)
    for value in ("registry.example/grokpath:1", '"16"', "128Gi", "H100", "other-data", "runner"):
        assert value in text
    assert {"name": "GROKPATH_TASK_RUNNER", "value": "dask"} in pod["containers"][0]["env"]
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == set(TEMPLATE["variables"]["properties"])


def test_the_checks_can_fail():
    job = manifest()
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        check(job)
