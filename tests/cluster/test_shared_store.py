"""Two machines that share nothing but object storage, on one study at once."""

import json
import sys
from contextlib import ExitStack

import pytest

from store import artifacts
from tests.attempts import attempts
from tests.little import write_study
from tests.object_store import s3_server
from tests.servers import environment, running

PATIENCE = 550.0
INCOMPLETE = 3
OF_EACH = ("warehouse", "report", "tracking")
"""Steps whose artifacts hold times and places, or that each machine takes for itself: there are no
locks between machines, so both may compute the same."""
COMMAND = [sys.executable, "-m", "flows.cli"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """File of the little study, on a disk that both machines see."""
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def storage():
    """Variables that lead to an empty store."""
    with s3_server() as env:
        yield {**env, "GROKPATH_SHARED": "s3://shared/grokpath"}


@pytest.fixture(scope="module")
def machines(study, storage, tmp_path_factory):
    """Roots of two machines that ran the study at once."""
    homes = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    with ExitStack() as both:
        started = [both.enter_context(run_on(home, study, storage)) for home in homes]
        codes = [process.wait(PATIENCE) for process in started]
    assert codes == [0, 0], [(home / "log").read_text()[-2000:] for home in homes]
    return [home / "data" for home in homes]


def run_on(home, study, storage, *words):
    """The command line on a machine with a root of its own."""
    env = environment(home, GROKPATH_ROOT=str(home / "data"), **storage)
    return running([*COMMAND, *(words or ("run",)), str(study)], env, home / "log")


def digests(root):
    """Digest of every artifact, by name."""
    return {
        path.parent.relative_to(root / "artifacts").as_posix(): json.loads(path.read_text())[
            "digest"
        ]
        for path in root.glob("artifacts/*/*/record.json")
        if path.parts[-3] not in OF_EACH
    }


def test_both_end_with_the_same_artifacts_undamaged(machines, monkeypatch):
    one, other = machines
    assert digests(one) == digests(other)
    assert (other / "little" / "report.html").exists()
    monkeypatch.setenv("GROKPATH_ROOT", str(other))
    assert [p for folder in artifacts.all_artifacts() for p in artifacts.verify(folder)] == []


def test_a_third_machine_plans_and_runs_without_a_single_body(machines, study, storage, tmp_path):
    for words, code in ((("status",), INCOMPLETE), (("plan",), 0), (("run",), 0)):
        with run_on(tmp_path, study, storage, *words) as process:
            assert process.wait(PATIENCE) == code, (tmp_path / "log").read_text()[-2000:]
    said = (tmp_path / "log").read_text()
    assert "1 of 21 steps are missing" in said
    assert "20 reused, 1 to be run" in said
    assert {row["step"] for row in attempts(tmp_path / "data")} == {"tracking"}
    assert digests(tmp_path / "data") == digests(machines[0])
