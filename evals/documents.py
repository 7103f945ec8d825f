"""Documents that lm-eval would score wrongly without a word, refused before any is scored."""

import re
from typing import Any

FIELD = re.compile(r"\{\{\s*(\w+)\s*\}\}")
HIDDEN = (-1, "-1")
"""What stands in place of an answer where a public test split hides it."""


def document_id_of(document: Any, position: int) -> int:
    """Number of a document: the integer `document_id` of its data, else its position."""
    given = document.get("document_id") if hasattr(document, "get") else None
    return given if isinstance(given, int) else position


def check_documents(name: str, task: Any, limit: int | None) -> None:
    """Refuse documents with one number, an empty field, no answer, or one that is no choice.

    Parameters
    ----------
    name
        The benchmark's.
    task
        The lm-eval task with its data.
    limit
        Documents that are asked, from the first; None for all.

    Raises
    ------
    ValueError
        Naming the benchmark, the document and what to do.
    """
    documents = list(task.doc_iterator(limit=limit))
    _check_numbers(name, documents)
    _check_fields(name, task, documents)
    # A task that grades by a function of its own may need no answer.
    if task.OUTPUT_TYPE == "multiple_choice" and task.get_config("process_results") is None:
        _check_answers(name, task, documents)


def _check_numbers(name: str, documents: list[tuple[int, Any]]) -> None:
    places: dict[int, int] = {}
    for place, document in documents:
        number = document_id_of(document, place)
        first = places.setdefault(number, place)
        if first != place:
            raise ValueError(
                f"benchmark {name!r}: document_id {number} is the number of two documents, at "
                f"positions {first} and {place}; give every document its own, or none, and their "
                "positions are taken"
            )


def _check_fields(name: str, task: Any, documents: list[tuple[int, Any]]) -> None:
    """Refuse null in a field that the prompt is made of: the prompt would say None."""
    template = task.get_config("doc_to_text")
    if not isinstance(template, str) or "{%" in template:  # which may well ask for null
        return
    for place, document in documents:
        for field in FIELD.findall(template):
            if field in document and document[field] is None:
                raise ValueError(
                    f"benchmark {name!r}: document {document_id_of(document, place)} has null in "
                    f"{field!r}, of which its prompt is made; correct the data"
                )


def _check_answers(name: str, task: Any, documents: list[tuple[int, Any]]) -> None:
    answers = [
        task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
        for _, document in documents
    ]
    hidden = sum(answer in HIDDEN for answer in answers if not isinstance(answer, list))
    if hidden:
        raise ValueError(
            f"benchmark {name!r}: the answers of {hidden} of {len(answers)} documents are hidden "
            "(label -1), as in public test splits; choose a split with answers"
        )
    for (place, document), answer in zip(documents, answers, strict=True):
        choices = list(task.doc_to_choice(document))
        if "" in choices:
            raise ValueError(
                f"benchmark {name!r}: choice {choices.index('')} of document "
                f"{document_id_of(document, place)} is an empty text, which has no likelihood; "
                "correct the data"
            )
        for one in answer if isinstance(answer, list) else [answer]:
            if one in choices or (isinstance(one, int) and 0 <= one < len(choices)):
                continue
            raise ValueError(
                f"benchmark {name!r}: the answer of document {document_id_of(document, place)} is "
                f"{one!r}, expected the position of one of its {len(choices)} choices, from 0, or "
                "its text; correct the data, or doc_to_target in the task file"
            )
