import json
import shutil
from datetime import UTC, datetime

import pytest

from store import artifacts


def make(key="abc", content="hello", **summary):
    """Write one artifact with two files, one of them in a folder."""
    with artifacts.draft("routing", 1, key, resumable=False) as out:
        (out / "data.txt").write_text(content)
        (out / "sub").mkdir()
        (out / "sub" / "more.txt").write_text("more")
        return artifacts.commit(
            out,
            step_name="routing",
            version=1,
            fingerprint=key,
            inputs={"a": 1},
            summary=summary,
            started_at=datetime.now(UTC),
            device="cpu",
        )


def fail_half_way(*, resumable):
    with artifacts.draft("routing", 1, "abc", resumable=resumable) as out:
        (out / "half.txt").write_text("half")
        raise OSError("disk full")


def test_what_was_written_is_found_whole(root):
    made = make(num_samples=3)
    assert artifacts.find("routing", 1, "abc") == made
    assert made.path == root / "artifacts" / "routing" / "v1-abc"
    assert made.summary == {"num_samples": 3}
    assert artifacts.verify(made.path) == []


def test_the_record_says_what_made_it(root):
    record = artifacts.read_record(make().path)
    assert record["inputs"] == {"a": 1}
    assert set(record["files"]) == {"data.txt", "sub/more.txt"}
    assert record["num_bytes"] == len("hello") + len("more")
    assert record["packages"]["torch"]
    assert record["seconds"] >= 0
    assert {"git_commit", "python", "device", "started_at", "ended_at"} <= set(record)


def test_nothing_is_there_before(root):
    assert artifacts.find("routing", 1, "abc") is None


def test_the_digest_is_the_content(root):
    assert make("a").digest == make("b").digest
    assert make("a").digest != make("c", content="other").digest


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda p: (p / "data.txt").write_text("hullo"), "data.txt has changed"),
        (lambda p: (p / "data.txt").unlink(), "data.txt is missing"),
        (lambda p: (p / "extra").write_text(""), "extra does not belong here"),
        (lambda p: (p / "record.json").unlink(), "record.json is missing or unreadable"),
        (lambda p: (p / "record.json").write_text("{"), "record.json is missing or unreadable"),
        (lambda p: (p / "record.json").write_text("[]"), "record.json is missing or unreadable"),
    ],
)
def test_damage_is_found_and_named(root, damage, problem):
    path = make().path
    damage(path)
    with pytest.raises(artifacts.DamagedArtifact, match=problem):
        artifacts.find("routing", 1, "abc")


@pytest.mark.parametrize(
    ("field", "value"),
    [("digest", "0" * 64), ("summary", {"loss": 0.0}), ("inputs", {}), ("seal", "0" * 64)],
)
def test_a_record_that_was_edited_contradicts_itself(root, field, value):
    path = make(loss=1.0).path
    edit_record(path, field, value)
    assert artifacts.verify(path) == ["record.json contradicts itself"]


def test_a_record_that_lost_a_field_is_damage_not_a_crash(root):
    path = make().path
    record = artifacts.read_record(path)
    del record["summary"]
    (path / "record.json").write_text(json.dumps(record))
    assert artifacts.verify(path) == ["record.json is missing or unreadable (KeyError)"]


def test_an_artifact_under_another_name_is_damage(root):
    path = make("abc").path
    shutil.copytree(path, path.with_name("v1-def"))
    assert artifacts.verify(path.with_name("v1-def")) == ["record.json belongs to another artifact"]


def test_what_is_no_artifact_is_not_listed(root):
    path = make("abc").path
    (path.parent / ".draft-v1-def").mkdir()
    (path.parent / "vim.swp").write_text("")
    (root / "artifacts" / "loose").write_text("")
    (root / "artifacts" / "link").symlink_to(path.parent)
    assert list(artifacts.all_artifacts()) == [path]
    artifacts.sweep()
    assert not (root / "artifacts" / "loose").exists()
    assert artifacts.verify(path) == []


@pytest.mark.parametrize("obstacle", ["root", "locks", "artifacts"])
def test_a_root_that_cannot_hold_data_is_told(root, obstacle):
    path = root if obstacle == "root" else root / obstacle
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    with pytest.raises(ValueError, match=r"cannot hold data .* choose another folder with --root"):
        artifacts.check_root()


def edit_record(path, field, value):
    record = artifacts.read_record(path)
    record[field] = value
    (path / "record.json").write_text(json.dumps(record))


def test_prefects_own_record_is_no_damage(root):
    made = make()
    (made.path / "result.json").write_text("{}")
    assert artifacts.verify(made.path) == []


def test_a_failure_leaves_nothing(root):
    with pytest.raises(OSError, match="disk full"):
        fail_half_way(resumable=False)
    assert list(root.rglob("*.txt")) == []


def test_a_resumable_step_finds_what_the_last_attempt_left(root):
    with pytest.raises(OSError, match="disk full"):
        fail_half_way(resumable=True)
    with artifacts.draft("routing", 1, "abc", resumable=True) as out:
        assert (out / "half.txt").read_text() == "half"


def test_a_draft_is_not_an_artifact(root):
    with artifacts.draft("routing", 1, "abc", resumable=False):
        assert artifacts.find("routing", 1, "abc") is None
        assert list(artifacts.all_artifacts()) == []


def test_a_number_that_is_none_is_refused_before_the_rename(root):
    with pytest.raises(ValueError, match="JSON"):
        make(loss=float("nan"))
    assert artifacts.find("routing", 1, "abc") is None


def test_discarded_means_gone_and_twice_is_fine(root):
    path = make().path
    artifacts.discard(path)
    artifacts.discard(path)
    assert artifacts.find("routing", 1, "abc") is None
    assert list(path.parent.iterdir()) == []


def test_all_artifacts_lists_finished_ones(root):
    paths = [make("a").path, make("b").path]
    assert list(artifacts.all_artifacts()) == paths
