"""The task files that ship with grokpath, and lm-eval's own that our studies use."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.cached_tasks import load_task
from evals.catalog import LM_EVAL, SHIPPED, find_task
from evals.checks import check_benchmarks
from evals.harness import document_texts, score
from studies.settings import EvaluationSpec
from studies.spec import Benchmark
from tests.evals.hub_data import QUESTIONS, add_dart_math, parquet
from tests.loopback_hub import LoopbackHub

GRADING = runpy.run_path(str(SHIPPED / "dart_math" / "grading.py"))
DART = Benchmark(name="dart_math_pool_math", metric="exact_match")
SETTINGS = EvaluationSpec()
OF_OUR_STUDIES = [
    (DART, SHIPPED),
    (Benchmark(name="commonsense_qa"), LM_EVAL),
    (Benchmark(name="mmlu_college_chemistry"), LM_EVAL),
    *[
        (Benchmark(name=name), LM_EVAL)
        for name in ("arc_easy", "arc_challenge", "hellaswag", "openbookqa")
    ],
]


@pytest.mark.parametrize(("benchmark", "home"), OF_OUR_STUDIES, ids=lambda one: Path(str(one)).name)
def test_the_benchmarks_of_our_studies_are_there_with_their_metric(
    benchmark: Benchmark, home: Path
) -> None:
    assert home in find_task(benchmark, []).path.parents
    assert len(check_benchmarks([benchmark], settings=SETTINGS)[benchmark.name]) == 64


def test_every_shipped_file_names_its_task_and_its_version() -> None:
    files = sorted(SHIPPED.rglob("*.yaml"))
    named = [file for file in files if not file.name.startswith("_")]
    assert {file.stem for file in named} >= {"dart_math_pool_math"}
    for file in named:
        task = find_task(Benchmark(name=file.stem), [])
        assert task.path == file
        assert task.config["metadata"]["version"]


def test_every_question_of_the_pool_is_asked_once(hub: LoopbackHub) -> None:
    add_dart_math(hub)
    texts = document_texts([DART], include_path=None, settings=SETTINGS)
    assert {t["prompt"] for t in texts} == {f"Question: {q}\nAnswer:" for q, _ in QUESTIONS}
    assert {(t["prompt"], t["target"]) for t in texts} == {
        (f"Question: {q}\nAnswer:", f" {answer}") for q, answer in QUESTIONS
    }
    rows = sorted(t["document_id"] for t in texts)
    assert rows == list(range(0, 3 * len(QUESTIONS), 3))  # where each question stands first
    assert [t["document_id"] for t in texts] != rows  # in a random order
    assert texts == document_texts([DART], include_path=None, settings=SETTINGS)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{1} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"hence \boxed 7", "7"),
        ("The answer is: 12.", "12"),
        (r"Half of it is 4. The answer is: $\frac12$.", r"\frac12"),
        ("The answer is 3. No, the answer is $4$.\n", "4"),
        (" 15 ", "15"),
        (r"\boxed{unfinished", r"\boxed{unfinished"),
        (r"\fbox{2} The answer is 3", "3"),
        ("", ""),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str) -> None:
    assert GRADING["final_answer"](text) == answer


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        (r"\boxed{\frac12}", r"\frac{1}{2}", 1),
        ("The answer is: $(1, 2)$.", "(1,2)", 1),
        (r"The answer is: 10\%", "10", 1),
        ("The answer is: 11", "10", 0),
        (r"\boxed{9^{9^{9^{9}}}}", "10", 0),  # must not be computed
        ("I do not know", "10", 0),
    ],
)
def test_answers_are_compared_by_the_rules_for_math(text: str, reference: str, right: int) -> None:
    assert GRADING["process_results"]({"gt_ans": reference}, [text]) == {"exact_match": right}


def test_a_pool_is_graded_end_to_end(
    make_model: Callable, tokenizer: object, hub: LoopbackHub, tmp_path: Path
) -> None:
    commit = add_dart_math(hub)
    (result,) = score(
        make_model(3, 1024),
        tokenizer,
        [DART],
        include_path=None,
        settings=EvaluationSpec(limit=2),
        batch_size=4,
        device="cpu",
    )
    assert (result.num_documents, result.dataset) == (2, "hkust-nlp/dart-math-pool-math")
    assert (result.commit, result.version) == (commit, "1.0")
    assert set(result.metrics) == {"exact_match"}


def test_commonsense_and_chemistry_are_read_as_choices(hub: LoopbackHub) -> None:
    csqa = [
        {
            "id": str(i),
            "question": f"w{i} ?",
            "question_concept": "w1",
            "choices": {"label": list("ABCDE"), "text": [f"w{j}" for j in range(i, i + 5)]},
            "answerKey": "ABCDE"[i % 5],
        }
        for i in range(6)
    ]
    hub.add_revision(
        "dataset",
        "tau/commonsense_qa",
        "main",
        {
            f"data/{split}-00000-of-00001.parquet": parquet(csqa)
            for split in ("train", "validation")
        },
    )
    chemistry = [
        {
            "question": f"w{i} ?",
            "subject": "college_chemistry",
            "choices": list("wxyz"),
            "answer": 2,
        }
        for i in range(5)
    ]
    hub.add_revision(
        "dataset",
        "cais/mmlu",
        "main",
        {
            f"college_chemistry/{split}-00000-of-00001.parquet": parquet(chemistry)
            for split in ("test", "validation", "dev")
        }
        | {
            "README.md": b"---\nconfigs:\n- config_name: college_chemistry\n  data_files:\n"
            + b"".join(
                f"  - split: {s}\n    path: college_chemistry/{s}-*\n".encode()
                for s in ("test", "validation", "dev")
            )
            + b"---\n"
        },
    )
    named = [Benchmark(name="commonsense_qa"), Benchmark(name="mmlu_college_chemistry")]
    texts = document_texts(named, include_path=None, settings=SETTINGS)
    assert [t["target"] for t in texts] == [f" {c}" for c in "ABCDEA"] + [" C"] * 5
    assert "\nC. y\n" in texts[-1]["prompt"]
    assert load_task(
        find_task(named[1], []), num_fewshot=None, limit=None, seed=1234, commit=None
    ).commit
