"""The deployments as a user makes them: `prefect deploy --all` against a real server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def prefect(prefect_server):
    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=CHECKOUT,
            env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run


def test_all_deployments_deploy(prefect):
    pool = prefect("work-pool", "create", "--type", "process", "grokpath")
    assert pool.returncode == 0, pool.stdout + pool.stderr
    done = prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    with get_client(sync_client=True) as client:
        for name in ("study/nano", "study/smoke", "pretrain/nano"):
            deployment = client.read_deployment_by_name(name)
            assert deployment.parameters["study"] in ("nano", "smoke")
            assert deployment.description
