"""Data sets in the formats of the hub, streamed from the loopback hub with what goes wrong."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub.streams import stream_rows
from studies.sources import HubSamples

REPOSITORY = "open-web-math/open-web-math"
NUM_FILES, NUM_ROWS = 3, 200


def parquet(rows, **settings):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **settings)
    return buffer.getvalue()


def jsonl(rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


def row(number):
    return {"url": f"https://example.org/{number}", "text": f"text {number} " * 20}


@pytest.fixture
def published(hub, root):
    """A data set of three Parquet files; its commit."""
    files = {
        f"data/train-{i:05d}-of-{NUM_FILES:05d}.parquet": parquet(
            [row(i * NUM_ROWS + j) for j in range(NUM_ROWS)], row_group_size=50
        )
        for i in range(NUM_FILES)
    }
    return hub.add_revision("dataset", REPOSITORY, "main", files)


def texts(commit, repository=REPOSITORY, seed=None, **fields):
    source = HubSamples(repository=repository, seed=seed, **fields)
    return [found["text"].split()[1] for found in stream_rows(source, commit)]


ALL = [str(number) for number in range(NUM_FILES * NUM_ROWS)]

# ---------------------------------------------------------------- what is read


def test_the_rows_come_in_order_and_nothing_of_them_is_stored(published, root):
    source = HubSamples(repository=REPOSITORY, seed=None)
    assert list(stream_rows(source, published)) == [row(number) for number in range(len(ALL))]
    kept = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert kept == []


def test_a_seed_mixes_the_files_the_same_way_each_time(published, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # of the library at a stream's end
    mixed = texts(published, seed=3)
    assert sorted(mixed) == sorted(ALL)
    assert len({int(number) // NUM_ROWS for number in mixed[:NUM_FILES]}) == NUM_FILES
    assert mixed == texts(published, seed=3)


def test_the_commit_is_read_when_the_branch_has_moved(published, hub):
    moved = hub.add_revision("dataset", REPOSITORY, "main", {"a.parquet": parquet([row(7)])})
    assert texts(published) == ALL
    assert texts(moved) == ["7"]


def test_no_more_is_fetched_than_is_read(published, hub):
    rows = stream_rows(HubSamples(repository=REPOSITORY, seed=None), published)
    assert next(rows) == row(0)
    rows.close()
    assert hub.sent("train-00002") == 0


def test_a_folder_a_subset_and_a_split_are_found(hub, root):
    card = b"""---
configs:
- config_name: wiki
  data_files:
  - {split: train, path: wiki/train.jsonl.gz}
  - {split: validation, path: wiki/held_out.jsonl}
---
"""
    files = {
        "python/a.parquet": parquet([row(1)]),
        "rust/a.parquet": parquet([row(2)]),
    }
    commit = hub.add_revision("dataset", "bigcode/starcoderdata", "main", files)
    assert texts(commit, "bigcode/starcoderdata", data_dir="python") == ["1"]
    files = {
        "README.md": card,
        "wiki/train.jsonl.gz": gzip.compress(jsonl([row(3)])),
        "wiki/held_out.jsonl": jsonl([row(4)]),
    }
    commit = hub.add_revision("dataset", "blester125/mediawiki-dolma", "main", files)
    assert texts(commit, "blester125/mediawiki-dolma", subset="wiki") == ["3"]
    assert texts(commit, "blester125/mediawiki-dolma", subset="wiki", split="validation") == ["4"]


def test_a_file_that_is_one_json_list_is_read(hub, root):
    listed = json.dumps([{"text": f"text {number}"} for number in range(3)], indent=1).encode()
    commit = hub.add_revision("dataset", "yahma/alpaca-cleaned", "main", {"data.json": listed})
    assert texts(commit, "yahma/alpaca-cleaned") == ["0", "1", "2"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subset": "nix"}, r"'nix' not found\. Available: \['default'\]"),
        ({"split": "test"}, r"Bad split: test\. Available splits: \['train'\]"),
        ({"data_dir": "nix"}, r"nix doesn't contain any data files"),
    ],
)
def test_what_a_data_set_has_not_is_reported(published, fields, message):
    with pytest.raises(ValueError, match=f"{REPOSITORY} at commit {published} .*{message}"):
        texts(published, **fields)


def test_an_unknown_data_set_and_a_gated_one_are_refused_at_once(published, hub):
    with pytest.raises(ValueError, match="open-web-maths: no such dataset repository"):
        texts(published, "open-web-math/open-web-maths")
    hub.gate("dataset", REPOSITORY, "secret")
    with pytest.raises(ValueError, match=r"is a gated dataset .* set HF_TOKEN"):
        texts(published)


def test_a_file_that_is_damaged_is_reported(hub, root):
    commit = hub.add_revision("dataset", REPOSITORY, "main", {"a.parquet": b"PAR1 and no more"})
    with pytest.raises(ValueError, match=f"at commit {commit} cannot be read: .*"):
        texts(commit)


def test_files_that_do_not_go_together_are_reported(hub, root):
    files = {"a.jsonl": jsonl([{"text": "text 1"}]), "b.jsonl": jsonl([{"text": "text 2", "x": 1}])}
    commit = hub.add_revision("dataset", REPOSITORY, "main", files)
    with pytest.raises(ValueError, match=r"cannot be read: .*column names don't match"):
        texts(commit)


def test_code_of_a_data_set_is_never_run(hub, root):
    files = {"open-web-math.py": b"raise SystemExit('remote code')"}
    commit = hub.add_revision("dataset", REPOSITORY, "main", files)
    with pytest.raises(ValueError, match="scripts are no longer supported"):
        texts(commit)


def test_a_folder_of_the_same_name_is_not_taken_for_it(published, tmp_path, monkeypatch):
    (tmp_path / REPOSITORY).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="also a folder here"):
        texts(published)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_offline_says_so(published, start, variable):
    code = f"""
from hub.streams import stream_rows
from studies.sources import HubSamples
try:
    next(stream_rows(HubSamples(repository={REPOSITORY!r}), {published!r}))
except ValueError as error:
    print(error)
"""
    reported, errors = start(code, **{variable: "1"}).communicate(timeout=60)
    assert reported.startswith("offline (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE)"), errors


# ---------------------------------------------------------------- what goes wrong on the way


@pytest.mark.parametrize(
    ("match", "fault"),
    [
        ("/resolve/", {"status": 429, "retry_after": "0"}),
        ("/resolve/", {"status": 503}),
        ("/api/datasets/", {"status": 502}),
        ("/train-00001", {"status": 500, "times": 2}),
        ("/train-00001", {"cut_after": 1000}),
        ("/train-00001", {"cut_after": 1000, "times": 2}),
    ],
)
def test_a_short_fault_costs_time_and_no_row(published, hub, impatient, match, fault):
    hub.fault(match, **fault)
    assert texts(published) == ALL
    assert all(fault.times == 0 for fault in hub.faults)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_hub_that_stays_busy_is_given_up_in_plain_words(
    published, hub, impatient, monkeypatch, status
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.fault("/train-00001", times=None, status=status)
    rows = stream_rows(HubSamples(repository=REPOSITORY, seed=None), published)
    with pytest.raises(ValueError, match=rf"{REPOSITORY}: the hub at .* answers {status}"):
        list(rows)


def test_a_hub_that_is_gone_is_given_up_in_plain_words(published, start):
    code = f"""
from hub import connection
connection.PATIENCE_SECONDS = connection.REACH_SECONDS = 0.1
from hub.streams import stream_rows
from studies.sources import HubSamples
try:
    next(stream_rows(HubSamples(repository={REPOSITORY!r}), {published!r}))
except ValueError as error:
    print(error)
"""
    reported, errors = start(code, HF_ENDPOINT="http://127.0.0.1:9").communicate(timeout=120)
    assert "the hub at http://127.0.0.1:9 is out of reach (ConnectError)" in reported, errors


def test_a_stream_that_breaks_in_the_middle_goes_on_where_it_was(published, hub, impatient):
    rows = stream_rows(HubSamples(repository=REPOSITORY, seed=None), published)
    found = [next(rows) for _ in range(NUM_ROWS + 5)]
    hub.fault("/train-00002", times=5, cut_after=10)
    found += list(rows)
    assert found == [row(number) for number in range(len(ALL))]
    assert hub.faults[0].times == 0
