"""Names on a hub, resolved once."""

import json
import logging
import shutil

import pytest

from store.artifacts import Checkpoint
from store.identity import Label
from studies.base import NothingYet
from studies.settings import Runtime
from studies.sources import HubSource
from studies.spec import Series
from tasks.hub import (
    choose_revisions,
    find_revisions,
    gaps,
    hub_checkpoints,
    pin_data_set,
    pin_revision,
    warn_of_moved,
    without_skipped,
)
from tests.published import branch_name, publish_model

REPOSITORY = "tiny/moe"
RUNTIME = Runtime(workers=1)


def pin(*steps):
    return {
        branch_name(step): pin_revision.run(
            label=Label("main"), repository=REPOSITORY, revision=branch_name(step), runtime=RUNTIME
        )
        for step in steps
    }


def series(**source):
    return Series(name="main", source=HubSource(repository=REPOSITORY, **source))


def test_a_branch_that_moves_is_reported_and_changes_nothing(hub, root, tmp_path, caplog):
    commits = publish_model(hub, tmp_path, REPOSITORY, (10, 20))
    source = HubSource(repository=REPOSITORY, steps=(10, 20))
    pins = pin(10, 20)
    new = hub.add_revision(
        "model", REPOSITORY, branch_name(10), tmp_path / REPOSITORY / branch_name(20)
    )
    now = find_revisions(source, looking=True)
    assert now == {branch_name(10): new, branch_name(20): commits[branch_name(20)]}
    logging.getLogger("prefect.grokpath").propagate = True
    with caplog.at_level("WARNING"):
        warn_of_moved(source, now, pins)
    assert f"has moved to {new}" in caplog.text
    assert branch_name(20) not in caplog.text
    found = hub_checkpoints(series(steps=(10, 20)), pin(10, 20), looking=False)
    assert [checkpoint.digest for checkpoint in found] == list(commits.values())[:2]


def test_the_same_weights_under_two_names_are_refused_unless_allowed(hub, root, tmp_path):
    publish_model(hub, tmp_path, REPOSITORY, (10,))
    folder = tmp_path / REPOSITORY / branch_name(10)
    hub.add_revision("model", REPOSITORY, branch_name(30), folder)
    names = (branch_name(10), branch_name(30))
    with pytest.raises(ValueError, match="same weights, byte for byte"):
        hub_checkpoints(series(revisions=names), pin(10, 30), looking=False)
    allowed = hub_checkpoints(
        series(revisions=names, allow_identical=True), pin(10, 30), looking=False
    )
    assert [checkpoint.step for checkpoint in allowed] == [10, 30]


def test_a_model_that_no_family_reads_is_refused_before_its_weights_come(hub, root):
    files = {
        "config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}',
        "model.safetensors": b"x" * 100,
    }
    hub.add_revision("model", REPOSITORY, branch_name(10), files)
    with pytest.raises(ValueError, match="no family reads models of type 'bert'"):
        pin(10)
    assert not hub.asked("safetensors")


def test_a_revision_without_a_step_in_its_name_is_refused(hub, root, tmp_path):
    publish_model(hub, tmp_path, REPOSITORY, (10,))
    pinned = pin_revision.run(
        label=Label("main"), repository=REPOSITORY, revision="main", runtime=RUNTIME
    )
    with pytest.raises(ValueError, match=r"revision 'main' .* its step is not known"):
        hub_checkpoints(series(revisions=("main",)), {"main": pinned}, looking=False)


def test_a_plan_that_cannot_ask_knows_the_steps(hub, root):
    source = HubSource(repository="nobody/nothing", steps=(5, 7), prefix="s1-")
    assert find_revisions(source, looking=True) == {"s1-step5": None, "s1-step7": None}
    with pytest.raises(ValueError, match="nobody/nothing"):
        find_revisions(HubSource(repository="nobody/nothing", count=3), looking=True)


def test_a_data_set_stays_at_the_commit_it_was_resolved_to(hub, root):
    first = hub.add_revision("dataset", "tiny/data", "main", {"a.jsonl": b"{}\n"})
    asked = {"repository": "tiny/data", "revision": "main", "runtime": RUNTIME}
    assert pin_data_set.run(**asked).summary["commit"] == first
    hub.add_revision("dataset", "tiny/data", "main", {"a.jsonl": b'{"a": 1}\n'})
    assert pin_data_set.run(**asked).summary["commit"] == first


def test_a_branch_whose_files_are_not_there_yet_is_left_out_until_they_are(
    hub, root, tmp_path, caplog
):
    publish_model(hub, tmp_path, REPOSITORY, (10, 20))
    whole = tmp_path / REPOSITORY / branch_name(20)
    hub.add_revision("model", REPOSITORY, branch_name(30), {"config.json": b"{}"})
    with caplog.at_level("WARNING"):
        assert list(choose_revisions(HubSource(repository=REPOSITORY))) == [
            branch_name(10),
            branch_name(20),
        ]
    assert "left out until it is complete" in caplog.text
    with pytest.raises(ValueError, match=r"neither model.safetensors"):
        pin(30)  # named by the study: an error
    hub.add_revision("model", REPOSITORY, branch_name(30), whole)
    assert branch_name(30) in choose_revisions(HubSource(repository=REPOSITORY))


def test_what_is_resolved_already_is_not_asked_for_again(hub, root, tmp_path):
    publish_model(hub, tmp_path, REPOSITORY, (10, 20))
    pin(10, 20)
    before = len(hub.asked(branch_name(10)))
    choose_revisions(HubSource(repository=REPOSITORY))
    assert len(hub.asked(branch_name(10))) == before > 0


def test_nothing_complete_is_nothing_yet(hub, root):
    hub.add_revision("model", REPOSITORY, branch_name(10), {"README.md": b"soon"})
    with pytest.raises(NothingYet):
        choose_revisions(HubSource(repository=REPOSITORY))


def test_revisions_of_two_models_are_refused(hub, root, tmp_path):
    publish_model(hub, tmp_path, REPOSITORY, (10, 20, 30))
    place = tmp_path / REPOSITORY / branch_name(20)
    wanted = series(revisions=(branch_name(10), branch_name(20)))

    def republish(name, **fields):
        file = place / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
        hub.add_revision("model", REPOSITORY, branch_name(20), place)

    republish("tokenizer.json", padding={"strategy": "BatchLongest"})
    first, second = hub_checkpoints(wanted, pin(10, 20), looking=False)
    assert first.pinned.summary["tokenizer_digest"] != second.pinned.summary["tokenizer_digest"]
    shutil.rmtree(second.pinned.path)
    republish("tokenizer.json", normalizer={"type": "Lowercase"})
    with pytest.raises(ValueError, match=rf"tokenizer of {branch_name(20)} is not that of .*norm"):
        hub_checkpoints(wanted, pin(10, 20), looking=False)
    assert not [one for one in hub.asked("safetensors") if one.path.endswith(".safetensors")]


def test_steps_that_a_study_skips_are_left_out_by_name():
    source = HubSource(repository="tiny/moe", prefix="stage1-", skip_steps=(20,))
    names = {"stage1-step10-tokens1K": "a", "stage1-step20-tokens2K": "b", "main": None}
    kept, left_out = without_skipped("main", source, names)
    assert kept == {"stage1-step10-tokens1K": "a", "main": None}
    assert [(one.revision, one.step, one.settled) for one in left_out] == [
        ("stage1-step20-tokens2K", 20, True)
    ]
    assert without_skipped("main", HubSource(repository="tiny/moe"), names) == (names, [])


def test_gaps_of_more_than_twice_the_median_are_reported():
    def checkpoints(*steps):
        rest = {"series": "s", "tokens_seen": None, "digest": None, "location": ""}
        return [Checkpoint(step=n, revision=f"step{n}", **rest) for n in steps]

    assert gaps(checkpoints(0, 10, 20, 40)) == []
    (reported,) = gaps(checkpoints(0, 10, 20, 41, 51))
    assert reported.startswith("21 steps lie between step20 and step41")
    assert gaps(checkpoints(1)) == []
