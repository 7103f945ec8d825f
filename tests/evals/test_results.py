import math

import pytest

from evals.results import metric_key, read_result
from studies.spec import Benchmark


class ExactTask:
    OUTPUT_TYPE = "generate_until"
    DATASET_PATH = "somebody/quiz"
    DATASET_NAME = None
    commit = "c" * 40

    def get_config(self, key: str) -> dict:
        return {"metadata": {"version": 2.0}}[key]


def outcome(values: list[object]) -> dict:
    samples = [
        {
            "doc_id": i,
            "doc": {"text": "?"},
            "target": "yes",
            "filtered_resps": [f"answer {i}"],
            "filter": "none",
            "doc_hash": f"doc{i}",
            "prompt_hash": f"prompt{i}",
            "target_hash": f"target{i}",
            "score": value,
        }
        for i, value in enumerate(values)
    ]
    numbers = [value for value in values if isinstance(value, int | float)]
    mean = sum(numbers) / len(numbers)
    scores = {"alias": "quiz", "score,none": mean, "score_stderr,none": "N/A", "sample_len": 4}
    return {"results": {"quiz": scores}, "samples": {"quiz": samples}}


QUIZ = Benchmark(name="quiz", metric="score")


def test_numbers_by_hand() -> None:
    result = read_result(QUIZ, ExactTask(), outcome([1, 0, 1.0, 0]))
    assert result.value == 0.5
    assert result.std_error == pytest.approx(math.sqrt(1 / 3) / 2)
    assert result.metrics == {"score": 0.5}
    assert result.documents.to_pydict() == {
        "document_id": [0, 1, 2, 3],
        "value": [1.0, 0.0, 1.0, 0.0],
        "correct": [True, False, True, False],
        "target": ["yes"] * 4,
        "response": ["answer 0", "answer 1", "answer 2", "answer 3"],
    }


def test_a_result_says_which_data_it_stands_on() -> None:
    result = read_result(QUIZ, ExactTask(), outcome([1, 0]))
    assert (result.dataset, result.commit, result.version) == ("somebody/quiz", "c" * 40, "2.0")
    again = read_result(QUIZ, ExactTask(), outcome([0, 0]))
    assert again.documents_digest == result.documents_digest
    fewer = read_result(QUIZ, ExactTask(), outcome([1]))
    assert fewer.documents_digest != result.documents_digest
    for part in ("doc", "prompt", "target"):
        other = outcome([1, 0])
        other["samples"]["quiz"][1][f"{part}_hash"] = "changed"
        changed = read_result(QUIZ, ExactTask(), other)
        assert changed.documents_digest != result.documents_digest


@pytest.mark.parametrize("value", [math.nan, math.inf, (1, 0), None, "1"])
def test_what_is_not_a_number_per_document_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"'score' of benchmark 'quiz' is not a number for 1 of 3"):
        read_result(QUIZ, ExactTask(), outcome([1, value, 0]))


def test_one_share_makes_all_documents_neither_right_nor_wrong() -> None:
    result = read_result(QUIZ, ExactTask(), outcome([1, 0, 0.25, 1 + 1e-9]))
    assert result.documents["value"].to_pylist() == [1.0, 0.0, 0.25, 1.0]
    assert result.documents["correct"].to_pylist() == [None] * 4
    assert result.value == pytest.approx(0.5625)


@pytest.mark.parametrize("value", [23.1, -4.2, 1.01])
def test_what_is_no_share_is_refused(value: float) -> None:
    with pytest.raises(
        ValueError, match=rf"'score' of benchmark 'quiz' is {value} for .* 0 to 1; "
    ):
        read_result(QUIZ, ExactTask(), outcome([1, value, 0]))


def test_what_lm_eval_aggregates_otherwise_is_refused() -> None:
    answer = outcome([1, 0, 0, 0])
    answer["results"]["quiz"]["score,none"] = 0.5
    with pytest.raises(ValueError, match=r"is 0\.5 over all documents, and the mean .* is 0\.25"):
        read_result(QUIZ, ExactTask(), answer)


def test_the_default_filter_needs_no_name() -> None:
    keys = ["acc,none", "acc_norm,none"]
    assert metric_key(Benchmark(name="quiz", metric="acc"), keys) == "acc,none"
    assert metric_key(Benchmark(name="quiz", metric="acc_norm,none"), keys) == "acc_norm,none"
    with pytest.raises(ValueError, match=r"no metric 'accuracy'; it has acc, acc_norm"):
        metric_key(Benchmark(name="quiz", metric="accuracy"), keys)
