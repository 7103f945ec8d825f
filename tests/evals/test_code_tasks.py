"""HumanEval+ and MBPP+ through lm-eval, on problems of our own in the real formats."""

import json
from pathlib import Path

import datasets
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from evals.code_tasks import (
    check_humaneval,
    check_mbpp,
    humaneval_check,
    humaneval_documents,
    mbpp_check,
    mbpp_documents,
    pass_at_1,
)
from evals.harness import score
from evals.sandbox import SandboxUnavailable
from studies.settings import EvaluationSpec
from studies.spec import Benchmark
from tests.evals.problems import PROBLEMS

SHIPPED = Path(__file__).parents[2] / "evals" / "tasks"
FEW = PROBLEMS[:4]
BENCHMARKS = [Benchmark(name=name, metric="pass@1") for name in ("humaneval_plus", "mbpp_plus")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Our task files with their data replaced by problems of our own, and short answers."""
    rows = {
        "humaneval_plus": [problem.humaneval() for problem in FEW],
        "mbpp_plus": [problem.mbpp(number) for number, problem in enumerate(FEW)],
    }
    for name, documents in rows.items():
        datasets.Dataset.from_list(documents).to_parquet(tmp_path / f"{name}.parquet")
        (tmp_path / f"{name}.yaml").write_text(
            f"include: {SHIPPED / name / name}.yaml\ntask: {name}\n"
            "dataset_path: parquet\n"
            f"dataset_kwargs: {{data_files: {{test: {name}.parquet}}}}\n"
            "generation_kwargs: {until: ['\\n#'], max_gen_toks: 8, do_sample: false}\n"
        )
    return tmp_path


@pytest.fixture(scope="module")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(["<pad>", "<eos>", *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="module")
def random_model(byte_tokenizer) -> OlmoeForCausalLM:
    torch.manual_seed(0)
    config = OlmoeConfig(
        vocab_size=len(byte_tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=1024,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return OlmoeForCausalLM(config).eval()


def test_a_random_model_solves_nothing(folder, random_model, byte_tokenizer):
    results = score(
        random_model,
        byte_tokenizer,
        BENCHMARKS,
        include_path=folder,
        settings=EvaluationSpec(),
        batch_size=4,
        device="cpu",
    )
    for result in results:
        assert (result.value, result.num_documents) == (0.0, len(FEW))
        rows = result.documents.to_pylist()
        assert [row["correct"] for row in rows] == [False] * len(FEW)
        assert all(row["response"] for row in rows)
    targets = [row["target"] for row in results[1].documents.to_pylist()]
    assert targets == [problem.program(problem.right) for problem in FEW]


def test_right_completions_get_one_and_wrong_ones_zero():
    documents = [problem.humaneval() for problem in FEW]
    right = [[problem.program(problem.right).partition(":\n")[2]] for problem in FEW]
    checked = check_humaneval([*right[:3], ["    pass\n"]], documents)
    scores = [pass_at_1(d, [c])["pass@1"] for d, c in zip(documents, checked, strict=True)]
    assert scores == [1.0, 1.0, 1.0, 0.0]
    assert checked == [right[0][0], right[1][0], right[2][0], "    pass\n"]
    assert json.loads(json.dumps(checked)) == checked

    documents = [problem.mbpp(number) for number, problem in enumerate(FEW)]
    programs = [[problem.program(problem.right)] for problem in FEW]
    checked = check_mbpp([["import os; os._exit(0)"], *programs[1:]], documents)
    assert [c.verdict.passed for c in checked] == [False, True, True, True]


def test_tests_that_cannot_fail_are_joined_by_the_examples():
    document = FEW[0].mbpp(0)
    assert mbpp_check(document, "").tests.count("assert mean_gap") == 0
    document["test"] = "def assertion(out, exp, atol):\n    out == exp\n"
    assert mbpp_check(document, "").tests.count("assert mean_gap") == 3


def test_functions_under_test_are_those_of_examples_and_solution():
    document = FEW[0].mbpp(0)
    document["code"] += "\ndef helper(x):\n    return x\n"
    document["test_list"][0] = "assert set(mean_gap([1, 2])) == set([1])"
    assert mbpp_check(document, "").functions == ("mean_gap",)
    document["test_list"] = ["assert other(1) == 1"]
    with pytest.raises(ValueError, match="its test_list calls other, its code defines helper"):
        mbpp_check(document, "")
    assert humaneval_check(FEW[1].humaneval(), "").functions == ("halves",)


def test_other_data_are_refused_with_their_columns():
    data = datasets.Dataset.from_list([{"prompt": "x", "tests": "y"}])
    with pytest.raises(ValueError, match="no column canonical_solution, entry_point, test; it has"):
        humaneval_documents(data)


def test_without_a_sandbox_the_benchmark_is_refused_before_a_model_runs(tmp_path, monkeypatch):
    data = datasets.Dataset.from_list([FEW[0].mbpp(0)])
    assert mbpp_documents(data) is data
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="no sandbox for model-written code"):
        mbpp_documents(data)


@pytest.mark.parametrize("name", ["humaneval_plus", "mbpp_plus"])
def test_shipped_task_files_run_no_code_here_and_fetch_no_metric(name):
    text = (SHIPPED / name / f"{name}.yaml").read_text()
    assert "\nunsafe_code" not in text
    assert f"dataset_path: evalplus/{name.replace('_', '')}\n" in text
    assert "process_results: !function evals.code_tasks.pass_at_1" in text
