"""A run of a study, kept in mind: what it uses stays until a newer run of the study is finished."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect.runtime import flow_run

from store import uses
from studies.spec import Study
from tasks.publish import describe


@contextmanager
def recording(study: Study) -> Iterator[Callable[[], None]]:
    """Note a study's run, and that it goes on; yields what to call once it is delivered.

    The artifacts themselves are noted where they are asked for (:mod:`tasks.step`).
    """
    run, spec = str(flow_run.id), describe(study)["spec_fingerprint"]
    with uses.gate_open():
        uses.began(run, study.name, spec)
        yield lambda: uses.finished(run, study.name)
