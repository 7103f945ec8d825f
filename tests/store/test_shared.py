"""The shared store, on an S3 server and on a folder: two roots stand for two machines."""

import json
from datetime import UTC, datetime

import pytest

from store import artifacts, shared
from tests.object_store import s3_server
from tests.servers import free_port

NAME = ("routing", 3, "0123456789abcdef0123")


@pytest.fixture(scope="module")
def s3():
    with s3_server() as env:
        yield env


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path, monkeypatch):
    """Address of an empty store, also in the environment."""
    if request.param == "file":
        address = f"file://{tmp_path}/store"
    else:
        for name, value in request.getfixturevalue("s3").items():
            monkeypatch.setenv(name, value)
        address = f"s3://shared/{tmp_path.name}"
    monkeypatch.setenv(shared.VARIABLE, address)
    shared._open.cache_clear()
    return address


@pytest.fixture
def on(tmp_path, monkeypatch):
    """Go to a machine: a root of its own, and a process that knows nothing of the others."""

    def go(machine):
        monkeypatch.setenv("GROKPATH_ROOT", str(tmp_path / machine))
        shared._open.cache_clear()

    return go


def make(text="numbers"):
    """An artifact with files in two folders, made on this machine."""
    with artifacts.draft(*NAME, resumable=False) as out:
        (out / "data.txt").write_text(text)
        (out / "below").mkdir()
        (out / "below" / "more.txt").write_text("more")
        return artifacts.commit(
            out,
            step_name=NAME[0],
            version=NAME[1],
            fingerprint=NAME[2],
            inputs={},
            summary={"num": 1},
            started_at=datetime.now(UTC),
            device="cpu",
        )


def objects(suffix=""):
    """Paths of all objects in the store that end so."""
    store = shared.store()
    return [p for p in store._files.find(store._base) if p.endswith(suffix)]


def test_what_one_machine_made_another_has(url, on):
    on("one")
    made = make()
    assert shared.lacks(made)
    shared.upload(made)
    assert not shared.lacks(made)
    on("two")
    assert artifacts.find(*NAME) is None
    assert shared.known(*NAME) == made
    assert shared.fetch(*NAME)
    assert artifacts.find(*NAME) == made
    assert (made.path / "below" / "more.txt").read_text() == "more"
    assert not shared.lacks(made)
    assert sorted(p.name for p in made.path.parent.iterdir()) == [made.path.name]


def test_nothing_is_fetched_from_an_empty_store_or_without_one(url, on, monkeypatch):
    on("one")
    assert not shared.fetch(*NAME)
    assert shared.known(*NAME) is None
    monkeypatch.delenv(shared.VARIABLE)
    made = make()
    assert not shared.lacks(made)
    shared.upload(made)
    assert not shared.fetch(*NAME)


@pytest.mark.parametrize("how", ["changed", "cut short", "missing"])
def test_damaged_data_are_not_used_and_made_again(url, on, how):
    on("one")
    shared.upload(make())
    files, (path,) = shared.store()._files, objects("data.txt")
    if how == "missing":
        files.rm_file(path)
    else:
        files.pipe_file(path, b"NUMBERS" if how == "changed" else b"num")
    on("two")
    assert not shared.fetch(*NAME)
    assert artifacts.find(*NAME) is None
    assert shared.known(*NAME) is None, "the damaged one was not withdrawn"
    shared.upload(make())
    on("three")
    assert shared.fetch(*NAME)


def test_an_upload_that_was_killed_is_not_there(url, on):
    on("one")
    made = make()
    shared.upload(made)
    shared.store()._files.rm_file(objects("0123.json")[0])  # the record comes last
    on("two")
    assert shared.known(*NAME) is None
    assert not shared.fetch(*NAME)
    on("one")
    assert shared.lacks(made)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": {}}'])
def test_a_record_that_is_none_is_withdrawn(url, on, content):
    on("one")
    shared.upload(make())
    shared.store()._files.pipe_file(objects("0123.json")[0], content)
    on("two")
    assert shared.known(*NAME) is None
    assert not shared.fetch(*NAME)
    assert objects("0123.json") == []


@pytest.mark.parametrize("name", ["../../escaped.txt", "/escaped.txt", ""])
def test_a_record_cannot_write_elsewhere(url, on, name, tmp_path):
    on("one")
    shared.upload(make())
    files, (path,) = shared.store()._files, objects("0123.json")
    record = json.loads(files.cat_file(path))
    record["files"][name] = record["files"]["data.txt"]
    files.pipe_file(path, json.dumps(record).encode())
    on("two")
    assert not shared.fetch(*NAME)
    assert not list(tmp_path.rglob("escaped.txt"))


def test_the_record_of_another_artifact_is_not_used(url, on):
    on("one")
    shared.upload(make())
    files, (path,) = shared.store()._files, objects("0123.json")
    other = path.replace("0123.json", "9999.json")
    files.pipe_file(other, files.cat_file(path))
    on("two")
    assert not shared.fetch(NAME[0], NAME[1], NAME[2][:-4] + "9999")


def test_one_listing_per_step_name(url, on, monkeypatch):
    on("one")
    shared.upload(make())
    on("two")
    store, listed = shared.store(), []
    real = store._list
    monkeypatch.setattr(store, "_list", lambda folder: listed.append(folder) or real(folder))
    for number in range(50):
        shared.known(NAME[0], NAME[1], f"{number:020d}")
    assert listed == ["routing"]


def test_an_unreachable_store_says_so_and_loses_nothing(on, monkeypatch):
    on("one")
    made = make()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "known",
        "AWS_SECRET_ACCESS_KEY": "very-secret-key",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_MAX_ATTEMPTS": "1",
        shared.VARIABLE: "s3://shared/somewhere",
    }.items():
        monkeypatch.setenv(name, value)
    shared._open.cache_clear()
    with pytest.raises(
        shared.StoreUnreachable, match=r"s3://shared/somewhere .*Nothing is"
    ) as told:
        shared.upload(made)
    assert "very-secret-key" not in str(told.value)
    assert artifacts.find(*NAME) == made


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/mnt/grokpath", "expected a URL like s3://bucket/prefix"),
        ("s3://", "expected a URL"),
        ("s4://bucket", "cannot be used"),
        ("s3://key:secret@bucket", "user or password in it"),
    ],
)
def test_an_address_that_is_none(monkeypatch, address, message):
    monkeypatch.setenv(shared.VARIABLE, address)
    with pytest.raises(ValueError, match=message) as told:
        shared.store()
    assert "secret@" not in str(told.value)
