"""Prefect's Dask task runner, with what a study needs on top of it.

Three things are ours. Waiting for a task that may fail: Prefect marks the future, but Dask looks
into tuples and the mark, which is one, does not survive it (prefect-dask 0.3.7), so the mark is put
on where the state is. Progress: bodies report to the cluster's scheduler, which passes it on to the
process of the flow. And a cluster of our own listens on loopback only.
"""

from collections.abc import Iterable
from typing import Any

from distributed import LocalCluster
from prefect import allow_failure
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.tasks import Task
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from tasks.listeners import Event, Kind, emit
from tasks.workers import SINGLE_THREADED, topic


class ClusterTaskRunner(DaskTaskRunner):
    """Tasks on a Dask cluster, each in a worker process that computes nothing else meanwhile."""

    def submit(
        self,
        task: "Task[..., Any]",
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> "PrefectDaskFuture[Any]":
        """Hand a task to the cluster; futures inside are replaced by the cluster's own."""
        self._follow_progress()
        after = [self._may_fail(one) for one in wait_for or ()]
        return super().submit(task, parameters, after or None, dependencies)

    def _may_fail(self, awaited: Any) -> Any:
        if not isinstance(awaited, allow_failure):
            return awaited
        future: PrefectFuture[Any] = awaited.unwrap()
        assert isinstance(future, PrefectDaskFuture)
        return self.client.submit(_marked, future.wrapped_future)

    def _follow_progress(self) -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        name = topic(context.flow_run.id)
        if name not in self.client._event_handlers:
            self.client.subscribe_topic(name, _pass_on)


def over(address: str | None, num_workers: int) -> ClusterTaskRunner:
    """A runner over the cluster at an address, or over a new one on this machine."""
    if address is not None:
        return ClusterTaskRunner(address=address)
    return ClusterTaskRunner(
        cluster_class=LocalCluster,
        cluster_kwargs={
            "n_workers": num_workers,
            "threads_per_worker": 1,
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
            "memory_limit": None,  # else Dask kills a worker that uses more than its share
            "env": dict.fromkeys(SINGLE_THREADED, "1"),
        },
    )


def _marked(state: State[Any]) -> Any:
    return allow_failure(state)


def _pass_on(event: tuple[float, dict[str, Any]]) -> None:
    fields = event[1]["event"]
    emit(Event(**fields | {"kind": Kind(fields["kind"])}))
