"""The guides for adding things, followed: their code runs and does what they say."""

import re
import sys
import textwrap
import types
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page, language):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def module_of(name, source, monkeypatch):
    """A block as the module that the guide says it is."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, name, "exec"), module.__dict__)
    return module


class TestMetric:
    PAGE = "add_metric.md"

    @pytest.fixture
    def module(self, monkeypatch):
        return module_of("metrics.expert_reach", blocks(self.PAGE, "python")[0], monkeypatch)

    def test_its_example_is_right(self, module):
        import doctest

        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0

    def test_it_can_be_registered(self):
        from metrics.registry import REGISTRY, Measure, by_name

        added = [Measure(**entry) for entry in yaml.safe_load(blocks(self.PAGE, "yaml")[0])]
        together = by_name([*REGISTRY.values(), *added])
        assert len(together) == len(REGISTRY) + 1
        row = together["expert_reach"].row()
        assert (row["low"], row["high"], row["monitored"]) == (0.0, 1.0, True)
        with pytest.raises(ValueError, match="is defined twice"):
            by_name([*together.values(), *added])

    def test_the_line_that_computes_it_fits_in(self, module):
        import inspect

        import numpy as np

        from metrics import candidates

        source = inspect.getsource(candidates.candidate_rows)
        line = blocks(self.PAGE, "python")[1]
        assert "    return [" in source
        changed = source.replace("    return [", textwrap.indent(line, "    ") + "    return [")
        names = {**vars(candidates), "expert_reach": module.expert_reach}
        exec(changed, names)
        weights = np.random.default_rng(0).dirichlet(np.ones(6), size=(30, 3))
        inputs = np.random.default_rng(1).integers(5, size=(30, 4)).tolist()
        rows = names["candidate_rows"](
            "math", weights, inputs, None, ridge=1.0, max_pairs=100, seed=0
        )
        assert {row["measure"]: row["value"] for row in rows}["expert_reach"] == pytest.approx(
            module.expert_reach(weights)
        )

    def test_its_tests_pass_and_would_not_without_it(self, module, monkeypatch):
        tests = module_of("test_expert_reach", blocks(self.PAGE, "python")[2], monkeypatch)
        found = [value for name, value in vars(tests).items() if name.startswith("test_")]
        assert len(found) == 3
        for test in found:
            test()
        tests.expert_reach = lambda weights: 0.5
        with pytest.raises(AssertionError):
            found[0]()


def test_the_family_of_the_guide_is_read_and_the_check_sees_its_bias():
    names = {}
    for block in blocks("add_family.md", "python"):
        exec(block, names)
    assert "holds 2 matrices, expected" in names["refused"]
    assert "executed other experts than those that the family chooses" in names["without"]
    assert names["passed"] is None


def test_the_benchmark_of_the_guide_is_found_and_scored(tmp_path, monkeypatch):
    from evals.checks import check_benchmarks
    from evals.harness import score
    from studies.settings import EvaluationSpec
    from studies.spec import Domain
    from tests.little import write_checkpoint
    from tests.published import tokenizer

    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.jsonl").write_text(blocks("add_benchmark.md", "json")[0])
    (tmp_path / "sums_grading.py").write_text(blocks("add_benchmark.md", "python")[0])
    task, study = blocks("add_benchmark.md", "yaml")
    (tmp_path / "sums.yaml").write_text(task)
    (domain,) = yaml.safe_load(study)["domains"]
    (benchmark,) = Domain.model_validate(domain).benchmarks
    benchmark = benchmark.model_copy(update={"file": tmp_path / "sums.yaml"})
    settings = EvaluationSpec()
    first = check_benchmarks([benchmark], settings=settings, folders=[])
    assert set(first) == {"sums"}

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(write_checkpoint(tmp_path, 1))
    (result,) = score(
        model,
        tokenizer(),
        [benchmark],
        include_path=None,
        settings=settings,
        batch_size=4,
        device="cpu",
    )
    assert result.documents["correct"].to_pylist() == [False] * 3
    grading = {}
    exec(blocks("add_benchmark.md", "python")[0], grading)
    assert grading["grade"]({"answer": "17"}, [" 17, I think"]) == {"right": 1}
    assert grading["grade"]({"answer": "17"}, ["1 7"]) == {"right": 0}

    (tmp_path / "sums.jsonl").write_text(blocks("add_benchmark.md", "json")[0].replace("17", "18"))
    assert check_benchmarks([benchmark], settings=settings, folders=[]) != first
