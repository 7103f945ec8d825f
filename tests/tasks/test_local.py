"""A folder of checkpoints that is written to, thinned out and rewritten while we look."""

import json
import logging
import os
import shutil
import time
from dataclasses import asdict

import pytest

from models.checkpoints import checkpoint_digest
from store import state
from studies.base import NothingYet
from studies.sources import LocalSource
from tasks.local import discover, is_gone, local_tokenizer, unchanged
from tasks.plan import STALE_SECONDS
from tests.little import write_checkpoint


@pytest.fixture
def folder(tmp_path, root):
    for step in (10, 20):
        write_checkpoint(tmp_path / "run", step)
    return tmp_path / "run"


def look(folder, **source):
    return discover("main", LocalSource(path=folder, **source))[0]


def left_out(folder, **source):
    return discover("main", LocalSource(path=folder, **source))[1]


def steps(checkpoints):
    return [checkpoint.step for checkpoint in checkpoints]


def cut(file):
    file.write_bytes(file.read_bytes()[:-3])


def test_one_that_is_not_complete_is_left_out_and_told(folder):
    cut(folder / "step20-tokens20K" / "model.safetensors")
    assert steps(look(folder)) == [10]
    (one,) = left_out(folder)
    assert one.reason == "model.safetensors is cut short"
    assert str(one).startswith(
        "left out: step20-tokens20K of series main: model.safetensors is cut"
    )
    assert "skip_steps" in str(one)
    assert not one.settled  # somebody may be writing it
    old = time.time() - 2 * STALE_SECONDS
    for path in ((folder / "step20-tokens20K"), *(folder / "step20-tokens20K").iterdir()):
        os.utime(path, (old, old))
    assert left_out(folder)[0].settled


def test_one_that_is_cut_after_it_was_measured_does_not_vanish_without_a_word(folder):
    look(folder)
    file = folder / "step20-tokens20K" / "model.safetensors"
    whole = file.read_bytes()
    cut(file)
    for _ in range(2):  # and is not taken for a new one at the next look
        (one,) = left_out(folder)
        assert one.reason == "it was complete before, and now model.safetensors is cut short"
        assert "restore its files" in one.advice
        assert one.settled
    file.write_bytes(whole)
    assert left_out(folder) == []
    assert steps(look(folder)) == [10, 20]


def test_a_step_that_is_skipped_is_left_out_by_name(folder):
    cut(folder / "step20-tokens20K" / "model.safetensors")
    assert steps(look(folder, skip_steps=(20,))) == [10]
    assert [str(one) for one in left_out(folder, skip_steps=(20,))] == [
        "left out: step20-tokens20K of series main: the study skips its step"
    ]
    assert steps(look(folder, steps=(10, 20), skip_steps=(20,))) == [10]


def test_one_that_will_never_be_read_is_no_reason_to_wait(folder):
    place = folder / "step20-tokens20K"
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"step20-tokens20K has its weights only as pytorch_"
    ) as no:
        look(folder)
    assert not isinstance(no.value, NothingYet)
    (place / "pytorch_model.bin").rename(place / "adapter_model.safetensors")
    (place / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"step20-tokens20K is an adapter .* without its model"):
        look(folder)


def test_checkpoints_of_two_models_are_refused(folder):
    file = folder / "step20-tokens20K" / "config.json"
    whole = file.read_text()
    file.write_text(json.dumps({**json.loads(whole), "num_experts": 16}))
    with pytest.raises(ValueError, match=r"step20\S* has num_experts 16, step10\S* has 8"):
        look(folder)
    file.write_text(whole)
    file = folder / "step20-tokens20K" / "tokenizer.json"
    state = json.loads(file.read_text())
    state["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"tokenizer of step20\S* is not that of step10\S* \(norm"):
        look(folder)


def test_one_that_is_asked_for_by_its_step_is_an_error(folder):
    cut(folder / "step20-tokens20K" / "config.json")
    with pytest.raises(ValueError, match=r"is not complete: config.json is cut short"):
        look(folder, steps=(10, 20))


def test_a_marker_may_be_demanded(folder):
    (folder / "step10-tokens10K" / "done").touch()
    assert steps(look(folder, complete_marker="done")) == [10]


def test_nothing_complete_is_nothing_yet(folder):
    for place in folder.iterdir():
        (place / "config.json").unlink()
    with pytest.raises(
        NothingYet, match=r"(?s)no complete .*step10\S* of series main: config.json"
    ):
        look(folder)


def test_what_was_seen_stays_when_its_folder_is_deleted(folder):
    before = look(folder)
    shutil.rmtree(folder / "step10-tokens10K")
    after = look(folder)
    assert [one.identity() for one in after] == [one.identity() for one in before]
    assert [is_gone(one) for one in after] == [True, False]
    assert local_tokenizer(after).location.endswith("step20-tokens20K")
    shutil.rmtree(folder / "step20-tokens20K")
    assert local_tokenizer(look(folder)).identity() == local_tokenizer(after).identity()


def test_a_plan_writes_nothing_down(folder):
    discover("main", LocalSource(path=folder), looking=True)
    assert state.known_checkpoints(folder) == {}


def test_another_training_in_the_same_folder_is_not_mixed_with_the_first(folder, caplog):
    look(folder)
    shutil.rmtree(folder)
    write_checkpoint(folder, 15)
    with caplog.at_level(logging.WARNING, "prefect.grokpath"):
        assert steps(look(folder)) == [15]
    assert "another training" in caplog.text
    assert steps(look(folder)) == [15]  # forgotten for good


def test_a_renamed_checkpoint_is_one_checkpoint(folder):
    look(folder)
    (folder / "step10-tokens10K").rename(folder / "checkpoint-10")
    assert [one.revision for one in look(folder)] == ["checkpoint-10", "step20-tokens20K"]


def test_weights_are_read_again_only_when_touched(folder, monkeypatch):
    monkeypatch.setattr("tasks.local.SETTLED_SECONDS", -1.0)
    look(folder)
    read = []
    monkeypatch.setattr(
        "models.checkpoints.checkpoint_digest",
        lambda at: read.append(at.name) or checkpoint_digest(at),
    )
    look(folder)
    assert read == []
    write_checkpoint(folder, 20)
    look(folder)
    assert read == ["step20-tokens20K"]


def test_what_was_written_just_now_is_not_trusted_by_its_times(folder):
    look(folder)
    assert all(one.stamps == {} for one in state.known_checkpoints(folder).values())


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_is_computed_from_a_checkpoint_that_changed_is_refused(folder, when):
    checkpoint = look(folder)[0]
    other = folder / "step20-tokens20K" / "model.safetensors"
    entered = False
    if when == "before":
        shutil.copy(other, checkpoint.path / "model.safetensors")
    with (  # noqa: PT012
        pytest.raises(ValueError, match="has changed since"),
        unchanged({"checkpoint": checkpoint}),
    ):
        entered = True
        shutil.copy(other, checkpoint.path / "model.safetensors")
    assert entered == (when == "meanwhile")


def test_one_that_is_deleted_while_it_is_measured_is_no_change(folder):
    checkpoint = look(folder)[0]
    with unchanged({"checkpoint": checkpoint}):
        shutil.rmtree(checkpoint.path)
    with pytest.raises(ValueError, match="was deleted before"), unchanged({"last": checkpoint}):
        pass


def test_a_damaged_memory_is_an_error_that_says_what_to_do(folder):
    look(folder)
    state.path().write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match="move it away"):
        look(folder)
    state.path().unlink()
    assert steps(look(folder)) == [10, 20]


def test_what_an_earlier_version_remembered_is_taken_over(folder, root):
    look(folder)
    (known, *_) = state.known_checkpoints(folder).values()
    state.path().unlink()
    earlier = root / state.EARLIER
    earlier.mkdir()
    gone = asdict(known) | {"name": "step5-tokens5K", "step": 5, "digest": "0" * 64}
    text = json.dumps({"folder": str(folder), "checkpoints": [gone]})
    (earlier / "0123.json").write_text(text)
    (earlier / "4567.json").write_text(text[:-20])
    assert steps(look(folder)) == [5, 10, 20]
