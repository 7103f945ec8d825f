"""Worker processes that run step bodies, and the progress they report.

Prefect's threads decide what runs; the bodies run here, one per process, because training and
lm-eval spend much of their time in Python and threads would take turns. Prefect's own process
runner was measured at about 100 ms per cached task, because it starts the task engine in the child;
deciding in a thread costs about 40 ms and starts no child when everything is reused
(docs/decisions/0002-worker-processes.md).

Each worker computes with one thread, so results do not depend on the number of cores.

A worker of a Dask cluster is a daemonic process, which may have no child processes, so there a body
runs in the worker itself: one at a time, with one compute thread, and so with the same numbers.
Results go through the artifact root, which must be the same folder, under the same path, for all
workers and the flow.
"""

import fcntl
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from tasks.listeners import Event, Kind, emit, listen

if TYPE_CHECKING:
    from distributed import Worker

SINGLE_THREADED = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
STARTED_AT = "grokpath_started_at"
"""Attribute of what a body raises: when a worker began with it."""
STOPPING = "the run is being stopped; everything already finished is saved"


class WorkerDied(RuntimeError):
    """A worker process ended without an answer."""


_lock = threading.Lock()
_pool: ProcessPoolExecutor | None = None
_pool_size = 0
_messages: Any = None  # in the parent: the queue it reads; in a worker: the queue it writes
_abandoned = False
_running = ("", "")  # in a worker: name of the step and label of the run it computes


@dataclass(frozen=True)
class Job:
    """Which body to run, and what its run is called."""

    module: str
    function: str
    step_name: str
    label: str
    root: str
    loads_model: bool = False


class Answer(NamedTuple):
    """What a body returned, and when a worker began with it: waiting for one is no work."""

    summary: dict[str, Any]
    started_at: datetime


def run(job: Job, num_workers: int, inputs: dict[str, Any]) -> Answer:
    """Run a body in a worker process and wait for its answer; in a Dask worker, in itself.

    Raises
    ------
    WorkerDied
        When the process was killed or ran out of memory. The next call starts new workers.
    """
    if dask_worker() is not None:
        _compute_with_one_thread()
        return _call(job, inputs)
    return _call_in_pool(job, num_workers, inputs)


def _call_in_pool(job: Job, num_workers: int, inputs: dict[str, Any]) -> Answer:
    pool = _ensure_pool(num_workers)
    try:
        answer: Future[Answer] = pool.submit(_call, job, inputs)
        return answer.result()
    except BrokenProcessPool as error:
        _drop_pool(pool)
        if _abandoned:
            raise WorkerDied(STOPPING) from None
        raise WorkerDied(
            f"the worker process computing {job.label!r} ended without an answer. It was killed, "
            "or the machine ran out of memory; with less memory, lower runtime.workers or "
            "runtime.batch_size. Everything already finished is saved: run again to go on."
        ) from error


def report(done: int, total: int, message: str = "") -> None:
    """Let listeners know how far the running body is; cheap, and silent where nobody listens."""
    event = Event(*_running, Kind.progress, done, total, message)
    if _messages is not None and multiprocessing.parent_process() is not None:
        _messages.put(event)
    elif dask_worker() is not None:
        emit(event)


def stop() -> None:
    """End the workers; the next body starts new ones."""
    if _pool is not None:
        _drop_pool(_pool)


def abandon() -> None:
    """Kill the workers at once and start none any more: this process is about to end."""
    global _abandoned
    _abandoned = True
    for child in multiprocessing.active_children():
        child.kill()


def _ensure_pool(num_workers: int) -> ProcessPoolExecutor:
    global _pool, _pool_size, _messages
    if _abandoned:
        raise WorkerDied(STOPPING)
    with _lock:
        if _pool is not None and _pool_size != num_workers:
            _pool.shutdown(wait=True)
            _pool = None
        if _pool is None:
            # spawn: a forked copy of a process with threads and an event loop can hang
            spawn = multiprocessing.get_context("spawn")
            if _messages is None:
                _messages = spawn.Queue()
                threading.Thread(target=_dispatch, args=(_messages,), daemon=True).start()
            _pool = ProcessPoolExecutor(
                num_workers, mp_context=spawn, initializer=_start, initargs=(_messages,)
            )
            _pool_size = num_workers
        return _pool


def _drop_pool(pool: ProcessPoolExecutor) -> None:
    global _pool
    with _lock:
        if _pool is pool:
            _pool = None
    pool.shutdown(wait=True, cancel_futures=True)


def _dispatch(messages: Any) -> None:
    while True:
        emit(messages.get())


def _start(messages: Any) -> None:
    """First thing in a worker: one compute thread, and die with the parent."""
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _compute_with_one_thread()
    _end_with_parent()


def _compute_with_one_thread() -> None:
    for variable in SINGLE_THREADED:
        os.environ[variable] = "1"
    if "torch" in sys.modules:  # it has read them already
        sys.modules["torch"].set_num_threads(1)


def _end_with_parent() -> None:
    """Die when the parent does, however it does, and whatever this process is busy with.

    A thread that waits for that needs Python's lock, which a native loop may hold for hours. Linux
    sends SIGKILL when the pipe that only the parent can write to is closed.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform == "linux":
        pipe = parent.sentinel
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _call(job: Job, inputs: dict[str, Any]) -> Answer:
    global _running
    started_at = datetime.now(UTC)
    _running = (job.step_name, job.label)
    os.environ["GROKPATH_ROOT"] = job.root  # may differ from when this worker was started
    step = getattr(import_module(job.module), job.function)
    try:
        return Answer(step.body(**inputs), started_at)
    except Exception as error:
        setattr(error, STARTED_AT, started_at)
        if not _can_travel(error):  # it would break the pool instead of reaching the caller
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        raise
    finally:
        if job.loads_model:  # another process may want the card's memory
            from models.devices import free_memory

            free_memory()


def _can_travel(error: Exception) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


# ---------------------------------------------------------------- inside a Dask worker


def topic(flow_run_id: UUID) -> str:
    """Under which name a cluster passes on the progress of a flow run."""
    return f"grokpath-{flow_run_id}"


def dask_worker() -> "Worker | None":
    """The Dask worker that runs the calling task, or None outside of a cluster."""
    distributed = sys.modules.get("distributed")
    if distributed is None:  # a Dask worker has it
        return None
    try:
        found: Worker = distributed.get_worker()
    except ValueError:
        return None
    return found


def enter_dask_worker(root: str) -> None:
    """Make this Dask worker work on a root, for the task that it is about to run.

    Raises
    ------
    ValueError
        When it runs more than one task at once, or the root is not there.
    """
    here = dask_worker()
    if here is None:
        return
    if here.state.nthreads != 1:
        raise ValueError(
            f"the Dask worker {here.address} runs {here.state.nthreads} tasks at once; bodies need "
            "a process for each: start workers with --nthreads 1, and more of them"
        )
    if not os.path.isdir(root):  # noqa: PTH112 (the text is what travelled)
        raise ValueError(
            f"the Dask worker {here.address} does not see {root}; the artifact root must be on a "
            "file system that the flow and all workers share, under the same path"
        )
    os.environ["GROKPATH_ROOT"] = root
    listen(forward)


def forward(event: Event) -> None:
    """Send an event to the process of the flow whose task this is."""
    from prefect.context import TaskRunContext

    here, context = dask_worker(), TaskRunContext.get()
    if here is not None and context is not None and context.task_run.flow_run_id is not None:
        fields = asdict(event) | {"kind": event.kind.value}  # plain data: it is packed by Dask
        here.log_event(topic(context.task_run.flow_run_id), {"event": fields})
