"""The body of the step, from files, data sets on the loopback hub and the nano corpus."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.nano.corpus import SPECIAL_TOKENS
from models.nano.model import build_tokenizer
from models.samples import COUNTED
from store.artifacts import Artifact, Tokenizer
from store.identity import Label, fingerprint
from studies.nano_model import CorpusSpec
from studies.settings import Runtime
from studies.sources import CorpusSamples, HubSamples, JsonlSamples
from tasks.checkpoints import make_corpus
from tasks.probes import collect_probes

WORDS = [f"word{number}" for number in range(1000)]
REPOSITORY = "blester125/mediawiki-dolma"


@pytest.fixture
def tokenizer(root):
    build_tokenizer([*SPECIAL_TOKENS, *WORDS, "Organic", "Chemistry"]).save_pretrained(root / "t")
    return Tokenizer(digest="0" * 64, location="t")


@pytest.fixture
def published(hub, root):
    """600 pages, every tenth about organic chemistry; the commit by `repository@revision`."""
    pages = [
        {"text": f"{WORDS[i]} {WORDS[i + 1]} {'ORGANIC chemistry' if i % 10 == 0 else ''}"}
        for i in range(600)
    ]
    files = {}
    for number in range(3):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(pages[number::3]), buffer)
        files[f"data/train-{number}.parquet"] = buffer.getvalue()
    return {f"{REPOSITORY}@main": hub.add_revision("dataset", REPOSITORY, "main", files)}


def collect(out, samples, tokenizer=None, corpus=None, commits=None):
    """Run the body; the samples, the counts and the summary."""
    out.mkdir(parents=True, exist_ok=True)
    summary = collect_probes.body(
        out,
        label=Label("main"),
        samples=samples,
        max_length=8,
        corpus=corpus,
        shuffle_answers=False,
        tokenizer=tokenizer,
        commits=commits or {},
        runtime=Runtime(),
    )
    assert sorted(path.name for path in out.iterdir()) == ["probe_counts.parquet", "probes.parquet"]
    counts = pq.read_table(out / "probe_counts.parquet").to_pylist()
    return pq.read_table(out / "probes.parquet"), counts, summary


def write(path, texts):
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return JsonlSamples(path=path)


def test_samples_and_counts_are_kept_by_domain_and_split(tmp_path, tokenizer):
    samples = {
        "math": {
            "probe": write(tmp_path / "a.jsonl", ["word1 word2", "word1  word2", "word3 word4"]),
            "validation": write(tmp_path / "b.jsonl", ["word5 word6"]),
        },
        "code": {"probe": write(tmp_path / "c.jsonl", ["word7 word8", "word8 word7"])},
    }
    found, counts, summary = collect(tmp_path / "out", samples, tokenizer)
    assert found.select(["domain", "split", "sample_id"]).to_pylist() == [
        {"domain": "math", "split": "probe", "sample_id": 0},
        {"domain": "math", "split": "probe", "sample_id": 2},
        {"domain": "math", "split": "validation", "sample_id": 0},
        {"domain": "code", "split": "probe", "sample_id": 0},
        {"domain": "code", "split": "probe", "sample_id": 1},
    ]
    assert found.schema.field("token_ids").type == pa.list_(pa.int32())
    assert counts[0] == {
        **dict.fromkeys(COUNTED, 0),
        "domain": "math",
        "split": "probe",
        "read": 3,
        "duplicates": 1,
        "samples": 2,
    }
    assert [row["samples"] for row in counts] == [2, 1, 2]
    assert summary["num_samples"] == {"math": 3, "code": 2}


def test_a_domain_with_one_probe_sample_is_refused(tmp_path, tokenizer):
    samples = {"math": {"probe": write(tmp_path / "a.jsonl", ["word1 word2"])}}
    with pytest.raises(ValueError, match=r"'math' has 1 probe sample, expected at least 2"):
        collect(tmp_path / "out", samples, tokenizer)


def test_samples_of_a_data_set_are_filtered_chosen_and_the_same_again(
    tmp_path, tokenizer, published, hub, monkeypatch
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # of the library at a stream's end
    keep = {"field": "text", "text": "Organic Chemistry"}
    source = HubSamples(repository=REPOSITORY, keep=keep, limit=20, shuffle_window=30, seed=1)
    samples = {"chemistry": {"probe": source}}
    found, (counts,), _ = collect(tmp_path / "1", samples, tokenizer, commits=published)
    assert all("ORGANIC chemistry" in text for text in found["text"].to_pylist())
    assert len(set(found["text"].to_pylist())) == counts["samples"] == 20
    # read until 20 had left the window that 30 others were still in
    assert counts["filtered_out"] + counts["not_chosen"] + 20 == counts["read"] < 600
    assert counts["not_chosen"] == 30

    hub.add_revision("dataset", REPOSITORY, "main", {"a.parquet": b"another"})
    collect(tmp_path / "2", samples, tokenizer, commits=published)
    for name in ("probes.parquet", "probe_counts.parquet"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()

    other = {"chemistry": {"probe": source.model_copy(update={"seed": 2})}}
    changed, _, _ = collect(tmp_path / "3", other, tokenizer, commits=published)
    assert changed["text"].to_pylist() != found["text"].to_pylist()


def test_a_search_ends_where_it_was_told_to(tmp_path, tokenizer, published):
    keep = {"field": "text", "text": "organic"}
    source = HubSamples(repository=REPOSITORY, keep=keep, seed=None, max_read=100)
    _, (counts,), _ = collect(
        tmp_path / "out", {"chemistry": {"probe": source}}, tokenizer, commits=published
    )
    assert (counts["read"], counts["samples"]) == (100, 10)


def test_another_commit_is_another_probe_set(tokenizer):
    def key(commit):
        source = HubSamples(repository=REPOSITORY)
        inputs = {
            "samples": {"chemistry": {"probe": source}},
            "tokenizer": tokenizer,
            "commits": {f"{REPOSITORY}@main": commit},
        }
        return fingerprint("probes", 2, inputs)

    assert key("1" * 40) == key("1" * 40) != key("2" * 40)


def test_samples_of_the_corpus_are_counted_too(tmp_path, root):
    folder = root / "artifacts" / "corpus" / "v1-0"
    folder.mkdir(parents=True)
    make_corpus.body(folder, label=Label("main"), corpus=CorpusSpec(modulus=7), runtime=Runtime())
    corpus = Artifact(step_name="corpus", version=1, fingerprint="0", digest="0")
    samples = {"math": {split: CorpusSamples() for split in ("probe", "validation")}}
    found, counts, _ = collect(tmp_path / "out", samples, corpus=corpus)
    assert [row["samples"] for row in counts] == [row["read"] for row in counts]
    assert sum(row["samples"] for row in counts) == found.num_rows > 2
    assert all(sum(flags) == 1 and flags[-1] for flags in found["counted"].to_pylist())
