import copy
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import OlmoeForCausalLM, PreTrainedTokenizerFast

from evals import cached_tasks, harness
from evals.harness import document_texts, score
from evals.results import BenchmarkResult
from studies.settings import EvaluationSpec
from studies.spec import Benchmark

BENCHMARKS = [
    Benchmark(name="nano_math_exact", metric="exact_match"),
    Benchmark(name="nano_math_choice", metric="acc"),
    Benchmark(name="nano_code_exact", metric="exact_match"),
    Benchmark(name="nano_code_choice", metric="acc"),
]
MakeModel = Callable[[int], OlmoeForCausalLM]


def run(
    model: OlmoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    items: Path | None,
    benchmarks: list[Benchmark] = BENCHMARKS,
    **settings: int,
) -> list[BenchmarkResult]:
    return score(
        model,
        tokenizer,
        benchmarks,
        include_path=items,
        settings=EvaluationSpec(**settings),
        batch_size=16,
        device="cpu",
    )


def forget() -> None:
    for cache in (cached_tasks._load, harness._token_ids):
        cache.cache_clear()


def last_logits(
    model: OlmoeForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str
) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]


def documents(items: Path, domain: str) -> list[dict]:
    return [json.loads(line) for line in (items / f"{domain}.jsonl").read_text().splitlines()]


def command_line(
    model: OlmoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    names: list[str],
    out: Path,
    *arguments: str,
    include_path: Path,
    adapter: Path | None = None,
    **environment: str,
) -> dict[str, dict]:
    """Scores and documents of the `lm_eval` command, run inside the folder of task files."""
    model.save_pretrained(out / "checkpoint")
    tokenizer.save_pretrained(out / "checkpoint")
    peft = "" if adapter is None else f",peft={adapter}"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args"]
    command += [f"pretrained={out / 'checkpoint'}{peft}", "--include_path", ".", "--tasks", *names]
    command += ["--seed", "1234", "--batch_size", "16", "--device", "cpu", *arguments]
    command += ["--log_samples", "--output_path", str(out / "results")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    subprocess.run(command, cwd=include_path, check=True, capture_output=True, env=environment)
    (file,) = (out / "results").rglob("results_*.json")
    answer = {name: {"scores": json.loads(file.read_text())["results"][name]} for name in names}
    for name in names:
        (file,) = (out / "results").rglob(f"samples_{name}_*.jsonl")
        answer[name]["samples"] = [json.loads(line) for line in file.read_text().splitlines()]
    return answer


def assert_equal_to(theirs: dict[str, dict], results: list[BenchmarkResult]) -> None:
    for ours in results:
        scores, samples = theirs[ours.benchmark]["scores"], theirs[ours.benchmark]["samples"]
        assert ours.value == pytest.approx(scores[f"{ours.metric},none"], abs=1e-12)
        assert ours.std_error == pytest.approx(scores[f"{ours.metric}_stderr,none"], abs=1e-12)
        samples.sort(key=lambda sample: sample["doc_id"])
        rows = ours.documents.to_pylist()
        assert [row["correct"] for row in rows] == [s[ours.metric] == 1 for s in samples]
        if ours.metric == "exact_match":
            assert [row["response"] for row in rows] == [s["filtered_resps"][0] for s in samples]
        parts = [[s[f"{part}_hash"] for part in ("doc", "prompt", "target")] for s in samples]
        told = "".join(" ".join(hashes) for hashes in parts)
        assert ours.documents_digest == hashlib.sha256(told.encode()).hexdigest()


def test_equal_to_the_command_line_from_the_second_checkpoint_on(
    make_model: MakeModel, tokenizer, items: Path, tmp_path: Path
) -> None:
    forget()
    run(make_model(1), tokenizer, items)
    model = make_model(2)
    results = run(model, tokenizer, items)
    assert cached_tasks._load.cache_info().hits == len(BENCHMARKS)
    theirs = command_line(
        model,
        tokenizer,
        [benchmark.name for benchmark in BENCHMARKS],
        tmp_path,
        *("--num_fewshot", "0"),
        include_path=items,
        HF_HOME=str(tmp_path / "hf"),
        HF_HUB_OFFLINE="1",
    )
    assert_equal_to(theirs, results)
    for ours in results:
        rows, samples = ours.documents.to_pylist(), theirs[ours.benchmark]["samples"]
        assert [row["document_id"] for row in rows] == [s["doc"]["document_id"] for s in samples]
        if "choice" in ours.benchmark:
            likeliest = [np.argmax([float(r[0]) for r in s["filtered_resps"]]) for s in samples]
            choices = [s["doc"]["choices"][i] for s, i in zip(samples, likeliest, strict=True)]
            assert [row["response"] for row in rows] == choices


def test_cached_tasks_give_what_fresh_ones_give(
    make_model: MakeModel, tokenizer, items: Path
) -> None:
    model = make_model(4)
    forget()
    fresh = run(model, tokenizer, items)
    run(make_model(5), tokenizer, items)
    kept = run(model, tokenizer, items)
    for one, other in zip(fresh, kept, strict=True):
        assert one.documents.equals(other.documents)
        assert (one.value, one.std_error, one.metrics) == (
            other.value,
            other.std_error,
            other.metrics,
        )


def test_choice_is_the_largest_log_likelihood(
    make_model: MakeModel, tokenizer, items: Path
) -> None:
    model = make_model(3)
    (result,) = run(model, tokenizer, items, [Benchmark(name="nano_math_choice")])
    expected = []
    for doc in documents(items, "math"):
        logits = last_logits(model, tokenizer, doc["prompt"])
        ids = tokenizer.convert_tokens_to_ids(doc["choices"])
        chosen = int(torch.log_softmax(logits, -1)[ids].argmax())
        expected.append(
            {
                "document_id": doc["document_id"],
                "value": float(chosen == doc["choice_index"]),
                "correct": chosen == doc["choice_index"],
                "target": doc["answer"],
                "response": doc["choices"][chosen],
            }
        )
    assert result.documents.to_pylist() == expected
    hits = np.array([row["correct"] for row in expected], dtype=float)
    assert 0 < hits.mean() < 1
    assert result.value == pytest.approx(hits.mean())
    assert result.std_error == pytest.approx(hits.std(ddof=1) / np.sqrt(18))
    assert (result.num_documents, result.metrics) == (18, {"acc": result.value})


def test_exact_match_is_the_greedy_next_token(
    make_model: MakeModel, tokenizer, items: Path
) -> None:
    model = make_model(3)
    (result,) = run(model, tokenizer, items, [BENCHMARKS[2]])
    for doc, row in zip(documents(items, "code"), result.documents.to_pylist(), strict=True):
        token = int(last_logits(model, tokenizer, doc["prompt"]).argmax())
        greedy = tokenizer.decode([token], skip_special_tokens=True)
        assert row == {
            "document_id": doc["document_id"],
            "value": float(greedy == doc["answer"]),
            "correct": greedy == doc["answer"],
            "target": doc["answer"],
            "response": greedy,
        }


def test_a_model_that_knows_the_answers_scores_one(
    make_model: MakeModel, tokenizer, items: Path, tmp_path: Path
) -> None:
    shutil.copytree(items, tmp_path / "items")
    model = make_model(3)
    docs = documents(items, "math")
    for doc in docs:
        token = int(last_logits(model, tokenizer, doc["prompt"]).argmax())
        doc["answer"] = tokenizer.convert_ids_to_tokens(token)
        doc["choices"][doc["choice_index"]] = doc["answer"]
    docs = [doc for doc in docs if doc["answer"].startswith("w")]
    text = "".join(json.dumps(doc) + "\n" for doc in docs)
    (tmp_path / "items" / "math.jsonl").write_text(text)
    results = run(model, tokenizer, tmp_path / "items", BENCHMARKS[:2])
    assert [(r.value, r.std_error, r.num_documents) for r in results] == [(1.0, 0.0, len(docs))] * 2


OWN_TASK = """
task: own_choice
dataset_path: json
dataset_kwargs: {data_files: {test: [math.jsonl, code.jsonl], train: math.jsonl}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{choice_index}}"
fewshot_delimiter: " "
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
OWN_FILTERS = """
include: _exact.yaml
task: own_filters
dataset_kwargs: {data_files: {test: math.jsonl}}
filter_list:
  - {name: word, filter: [{function: take_first}]}
  - name: digit
    filter: [{function: regex, regex_pattern: "(2)"}, {function: take_first}]
"""


@pytest.fixture
def own(items: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    shutil.copytree(items, folder)
    (folder / "own_choice.yaml").write_text(OWN_TASK)
    (folder / "own_filters.yaml").write_text(OWN_FILTERS)
    return folder


def test_a_task_of_ones_own_with_templates(make_model: MakeModel, tokenizer, own: Path) -> None:
    names = ["nano_math_choice", "nano_code_choice", "own_choice"]
    math, code, both = run(make_model(3), tokenizer, own, [Benchmark(name=n) for n in names])
    expected = math.documents.to_pylist() + code.documents.to_pylist()
    assert both.documents.to_pylist() == expected


def test_a_normalized_metric_has_the_response_it_judged(
    make_model: MakeModel, tokenizer, own: Path
) -> None:
    by_metric = [Benchmark(name="own_choice", metric=metric) for metric in ("acc", "acc_norm")]
    plain, normalized = run(make_model(3), tokenizer, own, by_metric)
    for result in (plain, normalized):
        rows = result.documents.to_pylist()
        assert [row["correct"] for row in rows] == [r["response"] == r["target"] for r in rows]
        assert result.metrics == {"acc": plain.value, "acc_norm": normalized.value}
    assert not plain.documents["response"].equals(normalized.documents["response"])


def test_one_of_several_filters_is_named(make_model: MakeModel, tokenizer, own: Path) -> None:
    model = make_model(3)
    with pytest.raises(ValueError, match=r"name one of 'exact_match,digit', 'exact_match,word'"):
        run(model, tokenizer, own, [Benchmark(name="own_filters", metric="exact_match")])
    named = [Benchmark(name="own_filters", metric=f"exact_match,{f}") for f in ("word", "digit")]
    plain, *filtered = run(model, tokenizer, own, [BENCHMARKS[0], *named])
    assert filtered[0].documents.equals(plain.documents)
    assert set(filtered[1].documents["response"].to_pylist()) <= {"2", "[invalid]"}
    assert set(filtered[1].metrics) == {"exact_match,word", "exact_match,digit"}


def test_few_shot_numbers_are_kept_apart(make_model: MakeModel, tokenizer, own: Path) -> None:
    def responses(**settings: int) -> list[str]:
        (result,) = run(make_model(3), tokenizer, own, [Benchmark(name="own_choice")], **settings)
        return result.documents["response"].to_pylist()

    none, two = responses(), responses(num_fewshot=2)
    assert two != none
    assert responses() == none
    assert responses(num_fewshot=2) == two
    assert responses(num_fewshot=2, seed=5) != two


def test_changed_items_are_read_again(
    make_model: MakeModel, tokenizer, items: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "items"
    shutil.copytree(items, folder)
    run(make_model(3), tokenizer, folder, BENCHMARKS[:1])
    lines = (folder / "math.jsonl").read_text().splitlines(keepends=True)
    (folder / "math.jsonl").write_text("".join(lines[:5]))
    (result,) = run(make_model(3), tokenizer, folder, BENCHMARKS[:1])
    assert result.num_documents == 5


def test_limit_takes_the_first_documents(make_model: MakeModel, tokenizer, items: Path) -> None:
    whole = run(make_model(3), tokenizer, items)
    for one, part in zip(whole, run(make_model(3), tokenizer, items, limit=7), strict=True):
        assert part.documents.equals(one.documents.slice(0, 7))
    (single,) = run(make_model(3), tokenizer, items, BENCHMARKS[:1], limit=1)
    assert (single.num_documents, single.std_error) == (1, None)


def test_batch_size_does_not_matter(make_model: MakeModel, tokenizer, items: Path) -> None:
    kwargs = {"include_path": items, "settings": EvaluationSpec(), "device": "cpu"}
    small = score(make_model(3), tokenizer, BENCHMARKS, batch_size=5, **kwargs)
    large = score(make_model(3), tokenizer, BENCHMARKS, batch_size=512, **kwargs)
    assert all(a.documents.equals(b.documents) for a, b in zip(small, large, strict=True))


def test_nothing_is_downloaded_shared_or_printed(
    make_model: MakeModel, tokenizer, own: Path, monkeypatch, capfd
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"a connection was opened: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    shared = Path(datasets.config.HF_DATASETS_CACHE)
    before = sorted(shared.rglob("*"))
    run(make_model(3), tokenizer, own)
    assert sorted(shared.rglob("*")) == before
    assert capfd.readouterr() == ("", "")


def test_no_benchmarks_no_scores(make_model: MakeModel, tokenizer, items: Path) -> None:
    assert run(make_model(3), tokenizer, items, []) == []


# ---------------------------------------------------------------- refusals


def test_a_missing_metric_names_those_there_are(
    make_model: MakeModel, tokenizer, items: Path
) -> None:
    with pytest.raises(ValueError, match=r"'nano_math_choice' has no metric 'f1'; it has acc$"):
        run(make_model(3), tokenizer, items, [Benchmark(name="nano_math_choice", metric="f1")])
    with pytest.raises(ValueError, match=r"'nano_math_exact' has no metric 'acc'; it has exact_m"):
        run(make_model(3), tokenizer, items, [Benchmark(name="nano_math_exact", metric="acc")])


def test_an_unknown_benchmark_names_near_ones(
    make_model: MakeModel, tokenizer, items: Path
) -> None:
    with pytest.raises(ValueError, match=r"unknown benchmark 'nano_maths_exact'.*nano_math_exact"):
        run(make_model(3), tokenizer, items, [Benchmark(name="nano_maths_exact")])
    with pytest.raises(ValueError, match=r"'arc_challenge_mt': no single.*name the tasks themsel"):
        run(make_model(3), tokenizer, items, [Benchmark(name="arc_challenge_mt")])


def test_missing_and_empty_data_is_refused(
    make_model: MakeModel, tokenizer, items: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "items"
    shutil.copytree(items, folder)
    (folder / "math.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"'nano_math_exact': its data file .*math.jsonl is empty"):
        run(make_model(3), tokenizer, folder)
    (folder / "math.jsonl").unlink()
    with pytest.raises(ValueError, match=r"its data file .*math.jsonl does not exist"):
        run(make_model(3), tokenizer, folder)
    with pytest.raises(ValueError, match=r"no folder with benchmarks at .*nowhere"):
        run(make_model(3), tokenizer, tmp_path / "nowhere")


def test_few_shot_examples_are_refused_where_none_are_allowed(
    make_model: MakeModel, tokenizer, items: Path
) -> None:
    with pytest.raises(ValueError, match=r"'nano_math_exact' allows no few-shot.*requests 3"):
        run(make_model(3), tokenizer, items, num_fewshot=3)


def test_a_broken_model_is_refused(make_model: MakeModel, tokenizer, items: Path) -> None:
    model = make_model(3)
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    with pytest.raises(ValueError, match=r"'nano_math_choice' are NaN for 18 of 18 documents"):
        run(model, tokenizer, items, BENCHMARKS[1:2])


SHARES = """
import math


def share_of_first_two(document, results):
    masses = [math.exp(log_likelihood) for log_likelihood, _ in results]
    return {"acc": sum(masses[:2]) / sum(masses)}
"""


def with_math(own: Path, change: Callable[[int, dict], dict]) -> None:
    """Rewrite the documents of math as `change` makes them."""
    rows = [{**doc, **change(place, doc)} for place, doc in enumerate(documents(own, "math"))]
    (own / "math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_share_per_document_is_an_accuracy_without_right_or_wrong(
    make_model: MakeModel, tokenizer, own: Path
) -> None:
    text = OWN_TASK.replace("own_choice", "own_share")
    (own / "own_share.yaml").write_text(
        text + "process_results: !function shares.share_of_first_two"
    )
    (own / "shares.py").write_text(SHARES)
    (result,) = run(make_model(3), tokenizer, own, [Benchmark(name="own_share")])
    values = result.documents["value"].to_numpy()
    assert 0 < values.min() < values.max() < 1
    assert result.value == pytest.approx(values.mean())
    assert result.std_error == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)))
    assert set(result.documents["correct"].to_pylist()) == {None}


@pytest.mark.parametrize("hidden", [-1, "-1"])
def test_hidden_answers_are_refused_before_anything_is_scored(
    make_model: MakeModel, tokenizer, own: Path, hidden
) -> None:
    with_math(own, lambda place, doc: {"choice_index": hidden} if place < 5 else {})
    with pytest.raises(ValueError, match=r"'own_choice': the answers of 5 of 36 documents are hid"):
        run(make_model(3), tokenizer, own, [Benchmark(name="own_choice")])


@pytest.mark.parametrize(("answer", "said"), [(4, "4"), (-2, "'-2'"), ("seven", "'seven'")])
def test_an_answer_that_is_no_choice_is_refused_with_its_document(
    make_model: MakeModel, tokenizer, own: Path, answer, said
) -> None:
    with_math(own, lambda place, doc: {"choice_index": answer} if place == 3 else {})
    number = documents(own, "math")[3]["document_id"]
    with pytest.raises(ValueError, match=rf"answer of document {number} is {said}, expected .* 4 "):
        run(make_model(3), tokenizer, own, [Benchmark(name="own_choice")])


def test_null_in_a_prompt_is_refused(make_model: MakeModel, tokenizer, own: Path) -> None:
    with_math(own, lambda place, doc: {"prompt": None} if place == 3 else {})
    number = documents(own, "math")[3]["document_id"]
    with pytest.raises(ValueError, match=rf"document {number} has null in 'prompt', from which"):
        run(make_model(3), tokenizer, own, [Benchmark(name="own_choice")])


def test_a_number_of_two_documents_is_refused(make_model: MakeModel, tokenizer, own: Path) -> None:
    with_math(own, lambda place, doc: {"document_id": 7} if place in (2, 9) else {})
    with pytest.raises(
        ValueError, match=r"document_id 7 is the number of two .* positions 2 and 9"
    ):
        run(make_model(3), tokenizer, own, [Benchmark(name="nano_math_choice")])
    run(make_model(3), tokenizer, own, [Benchmark(name="nano_math_choice")], limit=9)


def test_an_empty_choice_is_refused(make_model: MakeModel, tokenizer, own: Path) -> None:
    with_math(own, lambda place, doc: {"choices": [*doc["choices"][:3], ""]} if place == 3 else {})
    number = documents(own, "math")[3]["document_id"]
    with pytest.raises(ValueError, match=rf"choice 3 of document {number} is an empty text"):
        run(make_model(3), tokenizer, own, [Benchmark(name="own_choice")])


def test_a_first_document_that_lm_eval_stumbles_over_is_named(
    make_model: MakeModel, tokenizer, own: Path
) -> None:
    with_math(own, lambda place, doc: {"choices": ["", *doc["choices"][1:]]})
    with pytest.raises(ValueError, match=r"'own_choice': lm-eval cannot build it \(IndexError"):
        run(make_model(3), tokenizer, own, [Benchmark(name="own_choice", metric="acc_norm")])


@pytest.mark.parametrize("name", ["nano_math_choice", "nano_math_exact"])
def test_tokens_that_the_model_does_not_know_are_named(
    make_model: MakeModel, tokenizer, own: Path, name: str
) -> None:
    model = make_model(3)
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["<new>"])
    with_math(own, lambda place, doc: {"prompt": f"{doc['prompt']} <new>"} if place == 3 else {})
    metric = "acc" if "choice" in name else "exact_match"
    with pytest.raises(
        ValueError, match=rf"'{name}': a text becomes token 45 \('<new>'\), .* 0 to 44"
    ):
        run(model, larger, own, [Benchmark(name=name, metric=metric)])


def test_a_tokenizer_without_an_end_of_text_is_refused_with_what_to_do(
    make_model: MakeModel, tokenizer, items: Path
) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(
        ValueError, match=r"names no end of text, .* add eos_token to tokenizer_con"
    ):
        run(make_model(3), bare, items)


def test_texts_are_prompt_and_right_answer_of_the_documents_that_are_scored(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, items: Path
) -> None:
    scored = run(make_model(0), tokenizer, items, limit=12)
    texts = document_texts(BENCHMARKS, include_path=items, settings=EvaluationSpec(limit=12))
    assert len(texts) == 12 * len(BENCHMARKS)
    for result in scored:
        mine = {t["document_id"]: t for t in texts if t["benchmark"] == result.benchmark}
        rows = result.documents.to_pylist()
        assert set(mine) == {row["document_id"] for row in rows}
        for row in rows:
            assert mine[row["document_id"]]["target"].strip() == row["target"].strip()
            assert mine[row["document_id"]]["prompt"]
    assert document_texts([], include_path=items, settings=EvaluationSpec()) == []
