"""Which planned runs are one and the same."""

from store.artifacts import Artifact, Checkpoint
from store.identity import Label
from studies.settings import RoutingSpec, Runtime
from tasks.costs.distinct import distinct
from tasks.plan import Planned

CORPUS = Artifact(step_name="corpus", version=1, fingerprint="f", digest="d")


def planned(step_name="routing", **inputs):
    return Planned(step_name, "", None, None, inputs)


def checkpoint(revision):
    return Checkpoint(
        series="main", step=1, tokens_seen=None, revision=revision, digest=None, location=""
    )


def test_labels_and_runtime_make_no_difference():
    runs = [
        planned(label=Label("one"), corpus=CORPUS, runtime=Runtime(workers=1)),
        planned(label=Label("two"), corpus=CORPUS, runtime=Runtime(workers=2)),
    ]
    assert distinct(runs) == runs[:1]


def test_settings_checkpoints_and_steps_make_a_difference():
    runs = [
        planned(routing=RoutingSpec(), checkpoint=checkpoint("step1")),
        planned(routing=RoutingSpec(max_length=7), checkpoint=checkpoint("step1")),
        planned(routing=RoutingSpec(), checkpoint=checkpoint("step2")),
        planned("tuning", routing=RoutingSpec(), checkpoint=checkpoint("step1")),
    ]
    assert len(distinct(runs)) == 4


def test_runs_on_equal_planned_inputs_are_equal():
    first, second = (planned("probes", corpus=CORPUS) for _ in range(2))
    other = planned("probes", corpus=None)
    runs = [planned(series=[{"probes": made}]) for made in (first, second, other)]
    assert [id(run) for run in distinct(runs)] == [id(runs[0]), id(runs[2])]
