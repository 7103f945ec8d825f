"""HumanEval+ and MBPP+ for lm-eval: what the task files in `evals/tasks` call.

lm-eval's own tasks of these names fetch a metric script at import and run programs in its process,
so they are marked `unsafe_code` and must be confirmed. Ours run no program here, and need neither.
"""

import ast
import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from evals.code_checks import Check, Verdict, check_all
from evals.sandbox import find_sandbox

HUMANEVAL_COLUMNS = ("prompt", "canonical_solution", "entry_point", "test")
MBPP_COLUMNS = ("prompt", "code", "test_imports", "test_list", "test")


class CheckedCompletion(str):
    """What a model wrote, with the verdict on it."""

    verdict: Verdict

    @classmethod
    def of(cls, completion: str, verdict: Verdict) -> "CheckedCompletion":
        """A completion and its verdict as one value, which lm-eval carries to the metric."""
        checked = cls(completion)
        checked.verdict = verdict
        return checked


# ---------------------------------------------------------------- called by the task files


def humaneval_documents(documents: Any) -> Any:
    """The documents as they are, once their columns and a sandbox are found: `process_docs`."""
    return _ready(documents, HUMANEVAL_COLUMNS)


def mbpp_documents(documents: Any) -> Any:
    """The documents as they are, once their columns and a sandbox are found: `process_docs`."""
    return _ready(documents, MBPP_COLUMNS)


def check_humaneval(
    responses: Sequence[Sequence[str]], documents: Sequence[Mapping[str, Any]]
) -> list[CheckedCompletion]:
    """Check the first completion of every document, side by side: a filter of lm-eval."""
    return _checked(responses, [humaneval_check(d, r[0]) for d, r in _pairs(documents, responses)])


def check_mbpp(
    responses: Sequence[Sequence[str]], documents: Sequence[Mapping[str, Any]]
) -> list[CheckedCompletion]:
    """Check the first completion of every document, side by side: a filter of lm-eval."""
    return _checked(responses, [mbpp_check(d, r[0]) for d, r in _pairs(documents, responses)])


def pass_at_1(
    document: Mapping[str, Any], results: Sequence[CheckedCompletion]
) -> dict[str, float]:
    """The metric of one document, 0 or 1: `process_results`."""
    return {"pass@1": float(results[0].verdict.passed)}


# ---------------------------------------------------------------- program and tests of a document


def humaneval_check(document: Mapping[str, Any], completion: str) -> Check:
    """Program and tests of a document of evalplus/humanevalplus: prompt and completion are one."""
    name = document["entry_point"]
    return Check(
        program=document["prompt"] + completion,
        tests=f"{document['test']}\n\ncheck({name})\n",
        functions=(name,),
    )


def mbpp_check(document: Mapping[str, Any], completion: str) -> Check:
    """Program and tests of a document of evalplus/mbppplus; the completion is the program.

    The tests are those of the column `test`. Three documents compare there without an assert, so
    that nothing could fail: the examples of `test_list` are run as well.
    """
    parts = [*document["test_imports"], document["test"]]
    if not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(document["test"]))):
        parts += document["test_list"]
    return Check(
        program=completion,
        tests="\n".join(parts) + "\n",
        functions=_called_functions(document),
    )


def _called_functions(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Functions of the right solution that the examples call: the data has no column for them."""
    nodes = ast.walk(ast.parse("\n".join(document["test_list"])))
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    called -= vars(builtins).keys()
    defined = {n.name for n in ast.parse(document["code"]).body if isinstance(n, ast.FunctionDef)}
    if not called & defined:
        raise ValueError(
            f"document {document.get('task_id')} of MBPP+: its test_list calls "
            f"{', '.join(sorted(called)) or 'no function'}, its code defines "
            f"{', '.join(sorted(defined)) or 'none'}; a document needs a function that is in both"
        )
    return tuple(sorted(called & defined))


def _pairs(documents: Sequence[Any], responses: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(documents, responses, strict=True))


def _checked(responses: Sequence[Sequence[str]], checks: list[Check]) -> list[CheckedCompletion]:
    verdicts = check_all(checks)
    return [
        CheckedCompletion.of(response[0], verdict)
        for response, verdict in zip(responses, verdicts, strict=True)
    ]


def _ready(documents: Any, columns: Sequence[str]) -> Any:
    missing = [column for column in columns if column not in documents.column_names]
    if missing:
        raise ValueError(
            f"the data has no column {', '.join(missing)}; it has "
            f"{', '.join(documents.column_names)}. This benchmark reads {', '.join(columns)}"
        )
    find_sandbox()  # before a model spends hours writing what nobody can check
    return documents
