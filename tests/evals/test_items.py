import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from evals.items import TASK_FILES, benchmark_domains, write_benchmark_items
from models.nano.corpus import build_corpus
from studies.nano_model import CorpusSpec


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_folder_holds_items_and_task_files_of_its_domains(items: Path) -> None:
    assert sorted(file.name for file in items.iterdir()) == [
        "_choice.yaml",
        "_exact.yaml",
        "code.jsonl",
        "math.jsonl",
        "nano_code_choice.yaml",
        "nano_code_exact.yaml",
        "nano_math_choice.yaml",
        "nano_math_exact.yaml",
    ]


def test_items_are_the_benchmark_samples(items: Path, samples: pa.Table) -> None:
    for domain in ("math", "code"):
        expected = samples.filter(
            pc.and_(pc.equal(samples["domain"], domain), pc.equal(samples["split"], "benchmark"))
        ).to_pylist()
        rows = rows_of(items / f"{domain}.jsonl")
        assert len(rows) == len(expected) == 18
        for row, sample in zip(rows, expected, strict=True):
            assert row["document_id"] == sample["sample_id"]
            assert row == {"document_id": row["document_id"]} | {
                key: sample[key] for key in ("prompt", "choices", "choice_index", "answer")
            }


def test_the_answer_stands_where_choice_index_says(items: Path) -> None:
    rows = [*rows_of(items / "math.jsonl"), *rows_of(items / "code.jsonl")]
    assert {row["choice_index"] for row in rows} == {0, 1, 2}
    assert all(row["choices"][row["choice_index"]] == row["answer"] for row in rows)


def test_no_benchmark_sample_is_a_training_sample(items: Path, samples: pa.Table) -> None:
    train = samples.filter(pc.equal(samples["split"], "train"))
    rows = [*rows_of(items / "math.jsonl"), *rows_of(items / "code.jsonl")]
    assert not {row["prompt"] for row in rows} & set(train["prompt"].to_pylist())
    assert not {row["document_id"] for row in rows} & set(train["sample_id"].to_pylist())


def test_the_corpus_gives_all_benchmarks_and_none_of_its_training_samples(tmp_path: Path) -> None:
    samples = build_corpus(CorpusSpec()).samples
    write_benchmark_items(samples, tmp_path)
    seen = samples.filter(pc.not_equal(samples["split"], "benchmark"))
    seen_prompts = set(zip(seen["domain"].to_pylist(), seen["prompt"].to_pylist(), strict=True))
    num_items = 0
    for domain in benchmark_domains():
        rows = rows_of(tmp_path / f"{domain}.jsonl")
        num_items += len(rows)
        assert rows
        assert not seen_prompts & {(domain, row["prompt"]) for row in rows}
        assert not set(seen["sample_id"].to_pylist()) & {row["document_id"] for row in rows}
    assert num_items == pc.sum(pc.equal(samples["split"], "benchmark")).as_py()


def test_every_domain_has_both_task_files() -> None:
    assert benchmark_domains() == ("chemistry", "code", "commonsense", "math")
    for domain in benchmark_domains():
        for kind in ("choice", "exact"):
            task = yaml.safe_load((TASK_FILES / f"nano_{domain}_{kind}.yaml").read_text())
            assert task["task"] == f"nano_{domain}_{kind}"
            assert task["include"] == f"_{kind}.yaml"
            assert task["dataset_kwargs"] == {"data_files": {"test": f"{domain}.jsonl"}}


def test_writing_twice_gives_the_same_bytes(samples: pa.Table, tmp_path: Path, items: Path) -> None:
    shuffled = samples.take(list(reversed(range(samples.num_rows))))
    write_benchmark_items(shuffled, tmp_path)
    for file in items.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_a_table_without_benchmark_samples_is_refused(samples: pa.Table, tmp_path: Path) -> None:
    train = samples.filter(pc.equal(samples["split"], "train"))
    with pytest.raises(ValueError, match=r"none of the 12 samples has split 'benchmark'"):
        write_benchmark_items(train, tmp_path)


def test_an_unknown_domain_is_refused(samples: pa.Table, tmp_path: Path) -> None:
    poetry = samples.set_column(1, "domain", pa.array(["poetry"] * samples.num_rows))
    with pytest.raises(ValueError, match=r"domain poetry has no benchmark files.*chemistry, code"):
        write_benchmark_items(poetry, tmp_path)
