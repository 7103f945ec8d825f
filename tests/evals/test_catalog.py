import shutil
import socket
from pathlib import Path

import pytest

from evals.catalog import LM_EVAL, SHIPPED, definition, find_task
from evals.checks import check_benchmarks, hub_datasets
from evals.harness import document_texts
from studies.settings import EvaluationSpec
from studies.spec import Benchmark

QUIZ = """
include: _common.yaml
task: quiz
dataset_kwargs: {data_files: {test: quiz.jsonl}}
doc_to_text: !function prompts.ask
"""
COMMON = """
dataset_path: json
test_split: test
output_type: generate_until
doc_to_target: "{{answer}}"
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
CODE = "def ask(doc):\n    return 'Q: ' + doc['question']\n"
ROWS = '{"question": "w1 ?", "answer": "w2"}\n{"question": "w3 ?", "answer": "w4"}\n'
MATCH = "exact_match"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "quiz.yaml").write_text(QUIZ)
    (place / "_common.yaml").write_text(COMMON)
    (place / "prompts.py").write_text(CODE)
    (place / "quiz.jsonl").write_text(ROWS)
    return place


def quiz(**fields: object) -> Benchmark:
    return Benchmark(name="quiz", metric=MATCH, **fields)


def check(*benchmarks: Benchmark, folders: tuple[Path, ...] = (), **settings: object) -> dict:
    return check_benchmarks(benchmarks, settings=EvaluationSpec(**settings), folders=folders)


def own(folder: Path, name: str, text: str) -> Benchmark:
    (folder / f"{name}.yaml").write_text(f"task: {name}\ninclude: _common.yaml\n{text}")
    return Benchmark(name=name, metric=MATCH, file=folder / f"{name}.yaml")


# ---------------------------------------------------------------- where names are found


def test_a_file_a_folder_and_the_studys_folder_are_one_benchmark(folder: Path) -> None:
    by_file = find_task(quiz(file=folder / "quiz.yaml"), [])
    by_folder = find_task(quiz(), [folder])
    assert by_file == by_folder
    assert definition(by_file) == definition(by_folder)
    for benchmark, settings in (
        (quiz(file=folder / "quiz.yaml"), EvaluationSpec()),
        (quiz(), EvaluationSpec(tasks_folder=folder)),
    ):
        texts = document_texts([benchmark], include_path=None, settings=settings)
        assert [(t["prompt"], t["target"]) for t in texts] == [
            ("Q: w1 ?", " w2"),
            ("Q: w3 ?", " w4"),
        ]


def test_earlier_places_go_before_later_ones(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert find_task(quiz(), [folder, other]).path.parent == folder
    assert find_task(quiz(), [other, folder]).path.parent == other
    (folder / "arc_easy.yaml").write_text(QUIZ.replace("task: quiz", "task: arc_easy"))
    assert find_task(Benchmark(name="arc_easy"), [folder]).path.parent == folder
    assert LM_EVAL in find_task(Benchmark(name="arc_easy"), []).path.parents


def test_lm_evals_names_are_those_that_lm_eval_finds() -> None:
    from lm_eval.tasks import TaskManager

    folder = LM_EVAL / "mmlu"
    known = TaskManager(include_path=folder, include_defaults=False)
    assert len(known.all_subtasks) > 100
    for name in known.all_subtasks:
        assert find_task(Benchmark(name=name), []).name == name
        assert find_task(Benchmark(name=name), [folder]).path == known.task_index[name].yaml_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arc_esay", r"unknown benchmark 'arc_esay'.*did you mean .*arc_easy"),
        ("dart_math_pool_maths", r"did you mean dart_math_pool_math"),
        ("nothing like it at all ??", r"`lm_eval ls tasks` lists them"),
        ("mmlu", r"'mmlu': no single lm-eval task.*such as mmlu_abstract_algebra"),
    ],
)
def test_an_unknown_name_is_told_with_near_ones(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(Benchmark(name=name))


def test_a_file_that_is_not_that_task_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'riddle': .*quiz.yaml holds task 'quiz'; expected"):
        check(Benchmark(name="riddle", file=folder / "quiz.yaml"))
    (folder / "group.yaml").write_text("group: quiz\ntask: [quiz]\n")
    with pytest.raises(ValueError, match=r"group.yaml holds a group or no task"):
        check(quiz(file=folder / "group.yaml"))
    (folder / "broken.yaml").write_text("task: quiz\n  x: [\n")
    with pytest.raises(ValueError, match=r"'quiz': .*broken.yaml cannot be read: .*mapping values"):
        check(quiz(file=folder / "broken.yaml"))
    with pytest.raises(ValueError, match=r"no folder with benchmarks at .*nowhere"):
        check(quiz(), folders=(folder / "nowhere",))


# ---------------------------------------------------------------- what is asked of a task


def test_every_problem_of_a_study_is_told_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"a connection was opened: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    wrong = [Benchmark(name="arc_esay"), Benchmark(name="hellaswag", metric="f1"), quiz()]
    with pytest.raises(ValueError, match="arc_easy") as told:
        check(*wrong, folders=(folder,))
    first, second = str(told.value).splitlines()
    assert "'arc_esay'" in first
    assert second == "benchmark 'hellaswag' has no metric 'f1'; it has acc, acc_norm"


@pytest.mark.parametrize("name", ["humaneval", "mbpp", "mbpp_instruct", "humaneval_64"])
def test_code_that_would_run_here_is_refused_and_ours_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' runs model-written code.*humaneval_plus"):
        check(Benchmark(name=name, metric="pass@1"))


def test_a_metric_whose_code_comes_from_the_hub_is_refused(folder: Path) -> None:
    foreign = own(folder, "foreign", "metric_list: [{metric: exact_match, hf_evaluate: true}]\n")
    with pytest.raises(ValueError, match=r"'foreign': lm-eval has no metric 'exact_match' of its"):
        check(foreign)
    unknown = own(folder, "unknown", "metric_list: [{metric: rouge}]\n")
    with pytest.raises(ValueError, match=r"no metric 'rouge' of its own.*never runs here"):
        check(unknown)


def test_filters_and_default_metrics_are_known_from_the_file(folder: Path) -> None:
    filters = "filter_list: [{name: a, filter: []}, {name: b, filter: []}]\n"
    several = own(folder, "several", filters)
    with pytest.raises(ValueError, match=r"name one of 'exact_match,a', 'exact_match,b'"):
        check(several)
    assert check(several.model_copy(update={"metric": "exact_match,b"}))
    with pytest.raises(ValueError, match=r"has no metric 'acc'; it has exact_match"):
        check(own(folder, "default", "metric_list: null\n").model_copy(update={"metric": "acc"}))


def test_a_metric_that_should_fall_is_no_accuracy(folder: Path) -> None:
    falling = own(folder, "falling", "metric_list: [{metric: ter}]\n")
    with pytest.raises(
        ValueError, match=r"metric 'ter' of benchmark 'falling' is better when it is"
    ):
        check(falling.model_copy(update={"metric": "ter"}))
    said = "metric_list: [{metric: exact_match, higher_is_better: false}]\n"
    with pytest.raises(ValueError, match=r"'said' is better when it is lower"):
        check(own(folder, "said", said))


def test_examples_are_refused_where_the_file_allows_none(folder: Path) -> None:
    none = own(folder, "none", "num_fewshot: 0\n")
    with pytest.raises(ValueError, match=r"'none' allows no few-shot examples.*requests 3"):
        check(none, num_fewshot=3)
    assert check(none.model_copy(update={"num_fewshot": 0}), num_fewshot=3)
    with pytest.raises(ValueError, match=r"requests 2"):
        check(none.model_copy(update={"num_fewshot": 2}))


def test_the_data_sets_on_the_hub_are_known_without_a_network(folder: Path) -> None:
    asked = [quiz(), *(Benchmark(name=n) for n in ("arc_easy", "arc_challenge", "hellaswag"))]
    found = hub_datasets(asked, settings=EvaluationSpec(), folders=[folder])
    assert found == ["Rowan/hellaswag", "allenai/ai2_arc"]


def test_one_name_is_one_task_in_the_whole_study(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "_common.yaml").write_text(COMMON + "description: another\n")
    both = quiz(file=folder / "quiz.yaml"), quiz(file=other / "quiz.yaml")
    with pytest.raises(ValueError, match=r"'quiz' means different task files in different domains"):
        check(*both)
    assert len(check(both[0], both[0].model_copy(update={"limit": 1}))) == 1


# ---------------------------------------------------------------- what defines a benchmark


@pytest.mark.parametrize("file", ["quiz.yaml", "_common.yaml", "prompts.py", "quiz.jsonl"])
def test_a_change_to_any_file_is_another_definition(folder: Path, file: str) -> None:
    before = check(quiz(file=folder / "quiz.yaml"))
    addition = {"quiz.yaml": "description: x\n", "_common.yaml": "description: y\n"}
    with (folder / file).open("a") as out:
        out.write(addition.get(file, "\n"))
    assert check(quiz(file=folder / "quiz.yaml")) != before


def test_a_definition_knows_no_place(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else" / "where"
    shutil.copytree(folder, elsewhere)
    (folder / "other.yaml").write_text("task: another\n")
    (elsewhere / "notes.txt").write_text("not a part of it")
    here, there = (find_task(quiz(), [place]) for place in (folder, elsewhere))
    assert definition(here) == definition(there)


def test_data_files_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    (folder / "quiz.jsonl").rename(data)
    (folder / "quiz.yaml").write_text(QUIZ.replace("quiz.jsonl", str(data)))
    before = check(quiz(), folders=(folder,))
    assert len(document_texts([quiz()], include_path=folder, settings=EvaluationSpec())) == 2
    data.write_text(ROWS.replace("w4", "w5"))
    assert check(quiz(), folders=(folder,)) != before


def test_a_function_without_a_module_is_refused_at_once(folder: Path) -> None:
    (folder / "prompts.py").unlink()
    with pytest.raises(ValueError, match=r"'quiz': its task file names prompts.ask, but there"):
        check(quiz(), folders=(folder,))


def test_every_shipped_and_every_used_task_has_a_definition() -> None:
    names = {"hellaswag", "squadv2", *(f.stem for f in SHIPPED.rglob("[!_]*.yaml"))}
    digests = {definition(find_task(Benchmark(name=name), [])) for name in names}
    assert len(digests) == len(names) >= 3
