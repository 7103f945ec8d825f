"""Where the tasks of a flow run: threads of this process, or the workers of a Dask cluster.

    GROKPATH_TASK_RUNNER   threads (default) | dask
    GROKPATH_DASK_ADDRESS  scheduler of a cluster that is there, such as tcp://head:8786; without it
                           a cluster of processes on this machine lives as long as the run
    GROKPATH_DASK_WORKERS  how many processes that one has; as many as cores by default

It is a setting of the environment, not of a study: it says where, never what. Every flow uses it,
so one variable moves them all.
"""

import os
import re
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

RUNNER, ADDRESS, WORKERS = (
    "GROKPATH_TASK_RUNNER",
    "GROKPATH_DASK_ADDRESS",
    "GROKPATH_DASK_WORKERS",
)
KINDS = ("threads", "dask")
NUM_DECIDING_THREADS = 32
"""Tasks that Prefect looks at side by side. One that waits takes a thread, so there must be more
than a checkpoint has tasks (15 in the production study): else the next is not downloaded meanwhile.
"""


def task_runner() -> TaskRunner[Any]:
    """The task runner that the environment requests.

    Raises
    ------
    ValueError
        With one message that names the variable, what was found and what is allowed.
    """
    kind = os.environ.get(RUNNER) or "threads"
    if kind not in KINDS:
        raise ValueError(f"{RUNNER} is {kind!r}, expected one of {', '.join(KINDS)}")
    if kind == "threads":
        return ThreadPoolTaskRunner(max_workers=NUM_DECIDING_THREADS)
    address, num_workers = _address(), _num_workers()
    try:
        from flows.dask_runner import over
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{RUNNER} is dask, but {error.name} is not installed: "
            "pip install -e '.[dask]' -c constraints.txt"
        ) from error
    return over(address, num_workers)


def _address() -> str | None:
    address = os.environ.get(ADDRESS) or None
    if address is not None and not re.fullmatch(r"(tcp|tls|ucx|wss?)://[^\s/]+:\d+", address):
        raise ValueError(f"{ADDRESS} is {address!r}, expected a scheduler like tcp://host:8786")
    return address


def _num_workers() -> int:
    value = os.environ.get(WORKERS) or str(os.cpu_count() or 1)
    if not re.fullmatch(r"[1-9]\d{0,3}", value):
        raise ValueError(f"{WORKERS} is {value!r}, expected a number of processes, at least 1")
    return int(value)
