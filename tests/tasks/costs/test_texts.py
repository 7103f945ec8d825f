"""How many tokens there are, before and after samples were collected."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.flops import Texts
from store.artifacts import Artifact
from studies.nano_model import CorpusSpec
from studies.sources import CorpusSamples, HubSamples, JsonlSamples, ParquetSamples, TextSamples
from tasks.costs.amounts import Known
from tasks.costs.texts import Reading, corpus_size, instruction_texts, probe_texts, source_texts
from tasks.plan import Planned

SENTENCE = "the quick brown fox jumps over the lazy dog again "  # 50 characters


def test_a_limit_is_an_upper_bound():
    source = HubSamples(repository="some/data", limit=100)
    assert source_texts(source, 2048) == Reading(Texts.alike(100, 2048), Known.at_most)


def test_nothing_is_known_of_a_whole_data_set_on_a_hub():
    assert source_texts(HubSamples(repository="some/data", limit=None), 2048) is None


def test_a_file_without_a_limit_is_about_as_long_as_its_bytes(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps({"text": SENTENCE * 8}) + "\n" for _ in range(500)))
    reading = source_texts(JsonlSamples(path=path), 2048)
    assert reading.known is Known.about
    assert reading.texts.num_texts == 500
    assert reading.texts.num_tokens == pytest.approx(500 * 400 / 4, rel=0.1)


def test_a_large_file_is_judged_by_its_beginning(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps({"text": SENTENCE * 8}) + "\n" for _ in range(10_000)))
    assert source_texts(JsonlSamples(path=path), 2048).texts.num_texts == pytest.approx(
        10_000, rel=0.01
    )


def test_samples_are_never_longer_than_the_study_allows(tmp_path):
    path = tmp_path / "samples.txt"
    path.write_text("\n\n".join([SENTENCE * 100] * 5))
    texts = source_texts(TextSamples(path=path), 16).texts
    assert (texts.num_texts, texts.num_tokens) == (5, 80)


def test_parquet_files_say_how_many_samples_they_have(tmp_path):
    for name in ("a", "b"):
        rows = pa.table({"text": [f"{name} {i} {SENTENCE}" for i in range(300)]})
        pq.write_table(rows, tmp_path / f"{name}.parquet", compression="zstd")
    texts = source_texts(ParquetSamples(path=tmp_path), 2048).texts
    assert texts.num_texts == 600
    assert texts.num_tokens == pytest.approx(600 * 56 / 4, rel=0.2)


def test_an_empty_file_has_no_samples(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text("")
    assert source_texts(JsonlSamples(path=path), 16).texts.num_tokens == 0


def test_a_corpus_yet_to_be_generated_has_the_samples_of_the_generated_one():
    corpus = Planned("corpus", "corpus", None, None, {"corpus": CorpusSpec()})
    size = corpus_size(corpus)
    assert size.num_words == 234
    assert size.num_samples["math", "train"] == 721
    assert size.num_samples["code", "benchmark"] == 900
    samples = {"math": {"probe": CorpusSamples(), "validation": CorpusSamples()}}
    probes = Planned("probes", "", None, None, {"samples": samples, "corpus": corpus})
    found = probe_texts(probes)
    assert found["math", "probe"] == Reading(Texts(721, 721 * 5, 721 * 25, 721))
    assert found["math", "validation"].texts.num_texts == 60


def artifact(root, step_name, columns, name):
    made = Artifact(step_name=step_name, version=1, fingerprint="f" * 20, digest="d" * 64)
    made.path.mkdir(parents=True)
    pq.write_table(pa.table(columns), made.path / name)
    return made


def test_collected_probes_are_counted(root):
    columns = {
        "domain": ["math", "math", "code"],
        "split": ["probe", "probe", "probe"],
        "token_ids": [[1, 2, 3], [4], [5, 6]],
        "counted": [[False, True, True], [True], [False, False]],
    }
    found = probe_texts(artifact(root, "probes", columns, "probes.parquet"))
    assert found == {
        ("code", "probe"): Reading(Texts(1, 2, 4, 0)),
        ("math", "probe"): Reading(Texts(2, 4, 10, 3)),
    }


def test_collected_instructions_are_counted(root):
    columns = {"token_ids": [[1, 2], [3]], "counted": [[False, True], [True]]}
    found = instruction_texts(artifact(root, "instructions", columns, "instructions.parquet"))
    assert found == Reading(Texts(2, 3, 5, 2))
