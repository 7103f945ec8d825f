"""A study as plain data: what a graph holds, in which order, and what is known only later."""

from dataclasses import fields

import pytest

from flows.checkpoints import Identity, MeasuredSeries, checkpoints_of, identify, training_of
from flows.resolve import Looking, resolve
from flows.study import lay_out, plan_study
from store.artifacts import Artifact, Checkpoint
from store.tables import SeriesArtifacts
from studies.base import NothingYet
from tasks.checkpoints import digest_of, make_benchmark_items, make_corpus
from tasks.graph import Graph, Late, expected, replaced, settled

MADE = Artifact(
    step_name="pretraining",
    version=1,
    fingerprint="abc",
    digest="d",
    summary={"digests": {"step0": "zero", "step5": "five"}},
)


def test_a_graph_holds_what_its_sinks_read_in_the_order_of_laying_out():
    corpus = make_corpus(label="main", corpus="spec", runtime=None)
    unread = make_benchmark_items(label="other", corpus=corpus, runtime=None)
    late = Late(corpus, digest_of, ("step0",))
    items = make_benchmark_items(label="main", corpus=[{"of": late}], runtime=None)
    graph = Graph({"a": [items]})
    assert graph.nodes == [corpus, items]
    assert unread not in graph.nodes
    assert [node.label for node in graph.nodes] == ["corpus main", "benchmark items main"]


def test_a_late_value_travels_as_plain_data_and_is_read_once_its_artifact_is_there(root):
    node = make_corpus(label="main", corpus="spec", runtime=None)
    value = {"steps": [0, 5], "digests": [Late(node, digest_of, (name,)) for name in ("step5",)]}
    waiting = replaced(value, lambda one: f"future of {one.label}")
    assert waiting["digests"][0]["of"] == "future of corpus main"
    assert settled(waiting) == waiting  # nothing to read yet
    assert settled(replaced(value, lambda one: MADE)) == {"steps": [0, 5], "digests": ["five"]}
    assert expected(value) == {"steps": [0, 5], "digests": [None]}


def test_checkpoints_of_a_training_are_known_by_name_before_it_and_by_digest_after(root, smoke):
    (main, *_) = resolve(smoke, Looking()).series
    training = training_of(smoke, main.series)
    late = checkpoints_of(main, training)
    assert [one.until_then.step for one in late] == [0, 10, 20, 30, 40]
    assert {one.until_then.digest for one in late} == {None}
    names = [one.until_then.revision for one in late]
    made = MADE.model_copy(update={"summary": {"digests": {name: f"of {name}" for name in names}}})
    found = settled(replaced(late, lambda one: made))
    assert [one.digest for one in found] == [f"of {name}" for name in names]
    assert all(isinstance(one, Checkpoint) and one.location for one in found)
    row = settled(replaced(vars(identify(main.series, late, training)), lambda one: made))
    assert row["digests"] == [f"of {name}" for name in names]
    assert row["revisions"] == names


def test_laying_out_touches_nothing(root, smoke):
    laid = lay_out(smoke, resolve(smoke, Looking()))
    assert not root.exists()
    assert laid.graph.nodes[-1] is laid.tracking
    numbers = {node.number: place for place, node in enumerate(laid.graph.nodes)}
    for node in laid.graph.nodes:
        assert all(numbers[read.number] < numbers[node.number] for read in node.reads())


def test_a_series_that_cannot_be_resolved_stops_only_what_depends_on_it(root, smoke, tmp_path):
    from studies.sources import LocalSource

    (tmp_path / "empty").mkdir()
    main, *others = smoke.series
    lost = others[0].model_copy(update={"source": LocalSource(path=tmp_path / "empty")})
    study = smoke.model_copy(update={"series": (main, lost)})
    resolved = resolve(study, Looking())
    assert list(resolved.errors) == [lost.name]
    laid = lay_out(study, resolved)
    assert (laid.warehouse, laid.report, laid.tracking) == (None, None, None)
    assert {c.series for node in laid.graph.nodes if (c := node.checkpoint)} == {main.name}
    plan = plan_study(study)
    assert isinstance(plan.unresolved, NothingYet)
    assert str(plan.unresolved).startswith(f"series {lost.name} is left out, and so is what")
    assert "monitors" not in plan.counts()
    source = LocalSource(path=tmp_path / "nowhere", steps=(5, 7))
    gone = lost.model_copy(update={"name": "gone", "source": source})
    wrong = plan_study(smoke.model_copy(update={"series": (main, lost, gone)})).unresolved
    assert not isinstance(wrong, NothingYet)  # one of them will not come by waiting
    assert "nowhere" in str(wrong)
    with pytest.raises(NothingYet):
        plan_study(smoke.model_copy(update={"series": (lost,)}))


def test_what_is_laid_out_of_a_series_is_what_steps_read_of_it():
    laid = {one.name for one in (*fields(Identity), *fields(MeasuredSeries))} - {"identity"}
    assert laid == set(SeriesArtifacts.__annotations__)
