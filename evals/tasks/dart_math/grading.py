"""Documents and grading of dart_math_pool_math; lm-eval calls these for the task file beside.

Two answers are compared by lm-eval's own rules for MATH (hendrycks_math), which rewrite text. They
evaluate nothing, so no model can make them compute for hours; a grader that solves, such as
math-verify, would also accept `5.0` for `5`.
"""

import re
from typing import Any

import numpy as np
from lm_eval.tasks.hendrycks_math.utils import is_equiv, last_boxed_only_string

MAX_DOCUMENTS = 10_000
SEED = 0
_SAYS = re.compile(r"answer is:?", re.IGNORECASE)


def process_docs(dataset: Any) -> Any:
    """Every question of the pool once, in a random order that is always the same, at most 10,000.

    The pool has a row for each sampled solution; questions come again and again. The document_id
    is the row in which a question stands first.
    """
    queries = dataset.select_columns(["query"]).to_pandas()["query"]
    firsts = queries.drop_duplicates().index.to_numpy()
    chosen = np.random.default_rng(SEED).permutation(firsts)[:MAX_DOCUMENTS]
    documents = dataset.select_columns(["query", "gt_ans"]).select(chosen)
    return documents.add_column("document_id", chosen.tolist())


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, int]:
    """1 when the final answer of the generated text is the reference."""
    return {"exact_match": int(is_equiv(final_answer(results[0]), doc["gt_ans"]))}


def final_answer(text: str) -> str:
    r"""The last \boxed{...}; else what the last `answer is` says; else the text as a whole.

    >>> final_answer("Half of it is 4. The answer is: $\\frac12$.")
    '\\frac12'
    """
    boxed = last_boxed_only_string(text)
    if boxed is not None and boxed.startswith("\\boxed"):
        inside = boxed.removeprefix("\\boxed").strip()
        return inside[1:-1] if inside.startswith("{") else inside
    _, *said = _SAYS.split(text)
    answer = said[-1].strip().partition("\n")[0] if said else text.strip()
    return answer.strip().rstrip(".").strip("$ ")
