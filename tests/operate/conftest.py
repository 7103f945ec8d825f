"""One server, one worker, and a finished study to which a checkpoint is added, for a whole file."""

from contextlib import ExitStack

import pytest

from tests.operate.stage import Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with ExitStack() as stack:
        made = Stage(tmp_path_factory.mktemp("operate"), stack)
        made.server = made.start_server()
        made.command("deployments.register")
        made.command("flows.cli", "run", str(made.study))
        made.worker = made.start_worker()
        yield made
        made.kill()
