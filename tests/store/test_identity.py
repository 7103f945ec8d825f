import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.artifacts import Artifact, Checkpoint
from store.identity import IdentityError, Label, canonical, canonical_json, fingerprint
from studies.settings import PathwaysSpec, Runtime
from studies.sources import JsonlSamples

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def artifact(**changes):
    fields = {"step_name": "routing", "version": 1, "fingerprint": "f", "digest": "d"}
    return Artifact(**fields | changes)


def checkpoint(**changes):
    fields = {
        "series": "main",
        "step": 5,
        "tokens_seen": 10,
        "revision": "step5",
        "digest": "w",
        "location": "here",
    }
    return Checkpoint(**fields | changes)


@given(JSON)
def test_plain_json_is_its_own_canonical_form(value):
    assert canonical(value) == json.loads(canonical_json(canonical(value)))


def test_the_order_of_keys_does_not_matter():
    assert fingerprint("s", 1, {"a": 1, "b": 2}) == fingerprint("s", 1, {"b": 2, "a": 1})


@pytest.mark.parametrize(
    "other",
    [("t", 1, {"a": 1}), ("s", 2, {"a": 1}), ("s", 1, {"a": 2}), ("s", 1, {"b": 1}), ("s", 1, {})],
)
def test_whatever_counts_changes_the_fingerprint(other):
    assert fingerprint(*other) != fingerprint("s", 1, {"a": 1})


def test_a_changed_setting_counts():
    some, others = PathwaysSpec(), PathwaysSpec(threshold=0.6)
    assert fingerprint("s", 1, {"p": some}) != fingerprint("s", 1, {"p": others})


def test_runtime_and_labels_do_not_count():
    plain = fingerprint("s", 1, {"a": 1})
    runtime = Runtime(workers=7, device="cuda", batch_size=3)
    assert fingerprint("s", 1, {"a": 1, "runtime": runtime, "label": Label("main")}) == plain


def test_an_artifact_is_its_content_not_its_making():
    one, two = artifact(fingerprint="x", summary={"a": 1}), artifact(fingerprint="y")
    assert fingerprint("s", 1, {"in": one}) == fingerprint("s", 1, {"in": two})
    assert fingerprint("s", 1, {"in": one}) != fingerprint("s", 1, {"in": artifact(digest="e")})


def test_a_checkpoint_is_its_weights_not_its_name():
    same = checkpoint(series="other", step=6, revision="step6", location="there")
    assert fingerprint("s", 1, {"c": checkpoint()}) == fingerprint("s", 1, {"c": same})
    changed = checkpoint(digest="v")
    assert fingerprint("s", 1, {"c": checkpoint()}) != fingerprint("s", 1, {"c": changed})


def test_a_file_is_its_content(tmp_path):
    one, two = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one.write_text("x")
    two.write_text("x")
    assert canonical(JsonlSamples(path=one)) == canonical(JsonlSamples(path=two))
    two.write_text("y")
    assert canonical(JsonlSamples(path=one)) != canonical(JsonlSamples(path=two))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({1, 2}, "is a set, which has no identity"),
        (object(), "is a object, which has no identity"),
        (float("nan"), "is nan; a step can only be keyed on finite numbers"),
        (float("inf"), "is inf"),
        ({1: "a"}, "keys that are not strings"),
        (b"bytes", "is a bytes"),
    ],
)
def test_a_value_without_identity_raises_and_says_where(value, problem):
    with pytest.raises(IdentityError, match=problem) as caught:
        fingerprint("s", 1, {"settings": {"deep": [value]}})
    assert "settings.deep[0]" in str(caught.value)


def test_a_folder_is_the_content_and_names_of_its_files(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a.yaml").write_text("x")
    assert canonical(one) == canonical(two)
    (two / "sub" / "a.yaml").rename(two / "a.yaml")
    assert canonical(one) != canonical(two)


def test_what_is_not_there_has_no_content_to_be_known_by(tmp_path):
    with pytest.raises(IdentityError, match="is not there"):
        canonical(tmp_path / "nowhere")


def test_another_process_finds_the_same_fingerprint():
    code = (
        "from store.identity import fingerprint; from studies.settings import PathwaysSpec; "
        "print(fingerprint('s', 1, {'p': PathwaysSpec(), 'x': 0.1, 'y': 'é'}))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert there == fingerprint("s", 1, {"p": PathwaysSpec(), "x": 0.1, "y": "é"})
