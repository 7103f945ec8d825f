"""The task runner as a setting, and what a task needs to travel to another process."""

import os
import signal

import cloudpickle
import pytest
from distributed import Client, KilledWorker, LocalCluster
from prefect import allow_failure, flow, task
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.execution import _release, raise_failures
from flows.runner import task_runner
from store import artifacts
from store.artifacts import Checkpoint
from tasks import workers
from tasks.checkpoints import make_corpus
from tasks.prefect_task import task_of


@pytest.fixture
def asked(monkeypatch):
    """Ask for a task runner by environment variables."""
    for name in ("TASK_RUNNER", "DASK_ADDRESS", "DASK_WORKERS"):
        monkeypatch.delenv(f"GROKPATH_{name}", raising=False)

    def ask(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"GROKPATH_{name}", value)
        return task_runner()

    return ask


def test_threads_unless_told(asked):
    assert isinstance(asked(), ThreadPoolTaskRunner)
    assert isinstance(asked(TASK_RUNNER=""), ThreadPoolTaskRunner)


def test_a_cluster_of_our_own_has_one_thread_per_process_and_listens_on_loopback(asked):
    runner = asked(TASK_RUNNER="dask", DASK_WORKERS="3")
    assert runner.cluster_kwargs["n_workers"] == 3
    assert runner.cluster_kwargs["threads_per_worker"] == 1
    assert runner.cluster_kwargs["host"] == "127.0.0.1"
    assert runner.cluster_kwargs["dashboard_address"].startswith("127.0.0.1:")


def test_a_cluster_that_is_there_is_used(asked):
    runner = asked(TASK_RUNNER="dask", DASK_ADDRESS="tcp://head:8786")
    assert runner.address == "tcp://head:8786"
    assert runner.cluster_class is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TASK_RUNNER": "ray"}, r"GROKPATH_TASK_RUNNER is 'ray', expected one of threads, dask"),
        ({"DASK_ADDRESS": "head:8786"}, r"GROKPATH_DASK_ADDRESS is 'head:8786', .* tcp://host:878"),
        ({"DASK_WORKERS": "0"}, r"GROKPATH_DASK_WORKERS is '0', expected .* at least 1"),
        ({"DASK_WORKERS": "many"}, r"GROKPATH_DASK_WORKERS is 'many'"),
    ],
)
def test_nonsense_is_one_message(asked, variables, message):
    with pytest.raises(ValueError, match=message):
        asked(**{"TASK_RUNNER": "dask", **variables})


def test_tasks_travel_by_name(root):
    assert cloudpickle.loads(cloudpickle.dumps(make_corpus)) is make_corpus
    travelled = cloudpickle.loads(cloudpickle.dumps(task_of(make_corpus)))
    assert travelled.cache_policy.step is make_corpus
    checkpoint = Checkpoint(
        series="main", step=1, tokens_seen=None, revision="step1", digest="a", location="x"
    )
    cloudpickle.loads(cloudpickle.dumps(_release)).fn(checkpoint)


@pytest.fixture(scope="module")
def broad():
    """A Dask cluster whose one worker runs two tasks at once."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


def test_a_worker_of_several_threads_is_refused(broad, root):
    with pytest.raises(ValueError, match=r"runs 2 tasks at once.*--nthreads 1"):
        broad.submit(workers.enter_dask_worker, str(root)).result()


def test_outside_of_a_cluster_the_root_stays_what_it_is(root):
    workers.enter_dask_worker("/nowhere")
    assert artifacts.root() == root


@task
def fail():
    raise ValueError("as it should")


@task
def kill_its_process():
    os.kill(os.getpid(), signal.SIGKILL)


@task
def note(path):
    path.write_text("ran")


def finish(futures):
    wait(futures)
    raise_failures(futures)


@flow
def troubled(folder):
    """One task fails, one kills every worker it gets; what may follow both, and what may not."""
    failed, killed = fail.submit(), kill_its_process.submit()
    note.submit(folder / "after", wait_for=[allow_failure(failed)]).wait()
    note.submit(folder / "never", wait_for=[failed]).wait()
    with pytest.raises(ValueError, match="as it should"):
        finish([failed])
    with pytest.raises(KilledWorker):
        finish([killed])


def test_what_waits_for_a_failure_and_what_a_killed_worker_means(prefect_server, asked, tmp_path):
    runner = asked(TASK_RUNNER="dask", DASK_WORKERS="2")
    troubled.with_options(task_runner=runner)(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["after"]
