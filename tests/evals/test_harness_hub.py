"""Benchmarks whose data come from a hub: equal to the lm_eval command, pinned, once loaded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evals import cached_tasks
from evals.catalog import SHIPPED
from evals.harness import document_texts, score
from evals.results import BenchmarkResult
from models.adapters import add_adapter, save_adapter, with_adapters
from studies.settings import EvaluationSpec, TuningSpec
from studies.spec import Benchmark
from tests.evals.hub_data import add_arc, add_dart_math, parquet
from tests.evals.test_harness import assert_equal_to, command_line
from tests.loopback_hub import LoopbackHub

ARC = Benchmark(name="arc_easy")
BOTH = [ARC, Benchmark(name="dart_math_pool_math", metric="exact_match")]
LENGTH = 1024  # the generated answers are up to 512 tokens long


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    cached_tasks._load.cache_clear()


def run(
    model: object,
    tokenizer: object,
    benchmarks: list[Benchmark] | None = None,
    commits: dict[str, str] | None = None,
    batch_size: int | str = 16,
    **settings: object,
) -> list[BenchmarkResult]:
    return score(
        model,
        tokenizer,
        benchmarks or BOTH,
        include_path=None,
        settings=EvaluationSpec(**settings),
        batch_size=batch_size,
        device="cpu",
        commits=commits,
    )


def test_equal_to_the_command_line_with_examples(
    make_model: Callable, tokenizer: object, hub: LoopbackHub, tmp_path: Path
) -> None:
    add_arc(hub)
    add_dart_math(hub)
    results = run(make_model(2, LENGTH), tokenizer, num_fewshot=2, limit=5)
    theirs = command_line(
        make_model(2, LENGTH),
        tokenizer,
        [one.name for one in BOTH],
        tmp_path,
        *("--num_fewshot", "2", "--limit", "5"),
        include_path=SHIPPED,
    )
    assert [result.num_documents for result in results] == [5, 5]
    assert_equal_to(theirs, results)


def test_equal_to_the_command_line_with_an_adapter(
    make_model: Callable, tokenizer: object, hub: LoopbackHub, tmp_path: Path
) -> None:
    add_arc(hub)
    add_dart_math(hub)
    adapted = add_adapter(make_model(2, LENGTH), TuningSpec(rank=4))
    generator = torch.Generator().manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator)
    save_adapter(adapted, tmp_path / "adapter", "base")
    use = with_adapters(make_model(2, LENGTH), {"commonsense": tmp_path / "adapter"}).use
    plain = run(use(None), tokenizer, limit=5)
    tuned = run(use("commonsense"), tokenizer, limit=5)
    theirs = command_line(
        make_model(2, LENGTH),
        tokenizer,
        [one.name for one in BOTH],
        tmp_path,
        *("--limit", "5"),
        include_path=SHIPPED,
        adapter=tmp_path / "adapter",
    )
    assert_equal_to(theirs, tuned)
    for one, other in zip(plain, tuned, strict=True):
        assert not one.documents["response"].equals(other.documents["response"])
        assert one.documents_digest == other.documents_digest


def test_a_benchmarks_own_numbers_go_before_the_studys(
    make_model: Callable, tokenizer: object, hub: LoopbackHub
) -> None:
    add_arc(hub)
    model = make_model(2, LENGTH)
    own = Benchmark(name="arc_easy", num_fewshot=2, limit=3)
    (told,) = run(model, tokenizer, [own], num_fewshot=0, limit=7)
    (asked,) = run(model, tokenizer, [ARC], num_fewshot=2, limit=3)
    assert told.documents.equals(asked.documents)
    assert told.documents_digest == asked.documents_digest
    assert told.num_documents == 3


def test_the_second_checkpoint_asks_the_hub_for_nothing(
    make_model: Callable, tokenizer: object, hub: LoopbackHub
) -> None:
    add_arc(hub)
    (first,) = run(make_model(1), tokenizer, [ARC])
    assert hub.asked("ARC-Easy")
    hub.requests.clear()
    (second,) = run(make_model(2), tokenizer, [ARC])
    assert not hub.requests
    assert first.documents_digest == second.documents_digest
    assert not first.documents["response"].equals(second.documents["response"])
    texts = document_texts([ARC], include_path=None, settings=EvaluationSpec())
    assert not hub.requests
    assert [t["document_id"] for t in texts] == second.documents["document_id"].to_pylist()
    assert [t["target"].strip() for t in texts] == second.documents["target"].to_pylist()


def test_a_pinned_commit_stays_when_the_branch_moves(
    make_model: Callable, tokenizer: object, hub: LoopbackHub
) -> None:
    old = add_arc(hub, num_test=12)
    new = add_arc(hub, num_test=6)
    pins = {"allenai/ai2_arc": old, "somebody/else": new}
    (pinned,) = run(make_model(1), tokenizer, [ARC], commits=pins)
    (newest,) = run(make_model(1), tokenizer, [ARC])
    assert (pinned.commit, pinned.num_documents) == (old, 12)
    assert (newest.commit, newest.num_documents) == (new, 6)
    assert pinned.documents_digest != newest.documents_digest
    assert (newest.dataset, newest.version) == ("allenai/ai2_arc/ARC-Easy", "1.0")


def test_offline_says_what_is_missing_and_never_takes_another_commit(
    hub: LoopbackHub,
) -> None:
    old = add_arc(hub)
    new = add_arc(hub, num_test=6)
    document_texts([ARC], include_path=None, settings=EvaluationSpec())
    code = f"""
from evals.harness import document_texts
from studies.settings import EvaluationSpec
from studies.spec import Benchmark
for name, commits in (("arc_easy", {{}}), ("arc_easy", {{"allenai/ai2_arc": {new!r}}}),
                      ("arc_easy", {{"allenai/ai2_arc": {old!r}}}), ("openbookqa", {{}})):
    try:
        print(len(document_texts([Benchmark(name=name)], include_path=None,
              settings=EvaluationSpec(), commits=commits)))
    except ValueError as error:
        print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert told[:2] == ["6", "6"]
    assert f"pins data set allenai/ai2_arc to commit {old}, the local cache gave {new}" in told[2]
    assert "data set allenai/openbookqa (main) cannot be loaded" in told[3]
    assert "HF_HUB_OFFLINE is set" in told[3]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": b"x", "ai2_arc.py": b"print('ran')"}, r"code that comes with a data set ne"),
        ({"data/train.parquet": parquet([{"a": 1}])}, r"'ARC-Easy' not found"),
        (None, r"allenai/ai2_arc \(ARC-Easy\) cannot be loaded: .*doesn't exist"),
    ],
)
def test_a_data_set_that_cannot_be_loaded_is_named(
    hub: LoopbackHub, files: dict[str, bytes] | None, message: str, capfd: pytest.CaptureFixture
) -> None:
    if files is not None:
        hub.add_revision("dataset", "allenai/ai2_arc", "main", files)
    with pytest.raises(ValueError, match=message):
        document_texts([ARC], include_path=None, settings=EvaluationSpec())
    assert "ran" not in capfd.readouterr().out


def test_where_memory_runs_out_the_batch_is_halved(
    make_model: Callable, tokenizer: object, hub: LoopbackHub
) -> None:
    add_arc(hub)
    add_dart_math(hub)
    model = make_model(2, LENGTH)
    plain = run(model, tokenizer, limit=5)
    asked = []

    def refuse(_: object, arguments: tuple, named: dict) -> None:
        batch = arguments[0] if arguments else named["input_ids"]
        asked.append(len(batch))
        if len(batch) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    fitting = 3
    for batch_size, benchmarks in ((16, BOTH), ("auto", [ARC])):
        asked.clear()
        narrow = run(model, tokenizer, benchmarks, limit=5, batch_size=batch_size)
        assert asked[:4] == [5, 5, 4, 2]  # there are no more than 5 prompts
        for one, other in zip(plain, narrow, strict=False):
            assert one.documents.equals(other.documents)
    fitting = 0
    with pytest.raises(ValueError, match=r"'arc_easy': one prompt alone does not fit into memory"):
        run(model, tokenizer, [ARC])


def test_other_errors_of_the_model_are_not_taken_for_memory(
    make_model: Callable, tokenizer: object, hub: LoopbackHub
) -> None:
    add_arc(hub)
    model = make_model(2)

    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(model, tokenizer, [ARC])


def test_progress_is_told_by_prompts(
    make_model: Callable, tokenizer: object, hub: LoopbackHub
) -> None:
    add_arc(hub)
    told: list[int] = []
    score(
        make_model(2),
        tokenizer,
        [ARC],
        include_path=None,
        settings=EvaluationSpec(),
        batch_size=4,
        device="cpu",
        on_batch=told.append,
    )
    assert told[0] == 4
    assert told == sorted(set(told))
