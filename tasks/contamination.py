"""Contamination: which benchmark documents look as if they had been trained on."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from store.identity import Label
from studies.settings import ContaminationSpec, EvaluationSpec, Runtime
from studies.spec import Benchmark
from tasks.step import step


@step("contamination", version=4, run_name="contamination {label}", loads_model=True)
def find_contamination(
    out: Path,
    *,
    label: Label,
    last: Checkpoint,
    benchmarks: dict[str, list[Benchmark]],
    definitions: dict[str, str],
    items: Artifact | None,
    commits: dict[str, str],
    evaluation: EvaluationSpec,
    contamination: ContaminationSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Score every benchmark document with Min-K%++ under the last checkpoint; mark the highest.

    Writes contamination.parquet (score, marked, removed, by document) and documents.parquet (their
    texts). `definitions` and `commits` are those of the benchmarks and their data. With
    `removed_share` 0 no model is loaded. Costs seconds per nano series. Runs again when the
    checkpoint, the benchmarks or the settings change.
    """
    from evals.harness import document_texts
    from metrics.contamination import contaminated, min_k_score
    from models.batches import num_positions
    from models.extraction import token_scores
    from models.loading import load_checkpoint
    from models.samples import load_tokenizer
    from store.schemas import write_rows

    documents = [
        {"domain": domain, **document}
        for domain, chosen in benchmarks.items()
        for document in document_texts(
            chosen,
            include_path=items.path if items is not None else None,
            settings=evaluation,
            commits=commits,
        )
    ]
    rows = [{name: d[name] for name in ("domain", "benchmark", "document_id")} for d in documents]
    scores: list[float | None] = [None] * len(documents)
    if contamination.removed_share > 0:
        model, family, _ = load_checkpoint(last.path, runtime.device, evaluation.dtype)
        tokenizer = load_tokenizer(last.path)
        encoded = [
            _encode(tokenizer, d, contamination.tokens, num_positions(model.config))
            for d in documents
        ]
        found = token_scores(
            model,
            family,
            [ids for ids, _ in encoded],
            [counted for _, counted in encoded],
            batch_size=runtime.batch_size,
        )
        scores = [min_k_score(one, contamination.lowest_share) for one in found]
    marked = [False] * len(documents)
    for place in dict.fromkeys((row["domain"], row["benchmark"]) for row in rows):
        places = [at for at, row in enumerate(rows) if (row["domain"], row["benchmark"]) == place]
        if contamination.removed_share > 0:
            marks = contaminated([scores[at] or 0.0 for at in places], contamination.removed_share)
            for at, mark in zip(places, marks.tolist(), strict=True):
                marked[at] = mark
    judged = [
        {**row, "score": score, "marked": mark, "removed": mark and contamination.exclude}
        for row, score, mark in zip(rows, scores, marked, strict=True)
    ]
    write_rows("contamination", judged, out, leave_out=("series",))
    texts = [
        {**row, "text": d["prompt"] + d["target"]} for row, d in zip(rows, documents, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(texts), out / "documents.parquet", compression="zstd")
    return {
        "num_marked": sum(marked),
        "num_removed": sum(one["removed"] for one in judged),
        "num_documents": len(documents),
    }


def _encode(
    tokenizer: Any, document: dict[str, Any], which: str, num_positions: int | None
) -> tuple[list[int], list[bool]]:
    """Token ids of a document and which of them are scored; at least the last one is.

    Of a document that is longer than the model's context the end is taken, as lm-eval does.
    """
    prompt, text = document["prompt"], document["prompt"] + document["target"]
    ids = tokenizer(text, verbose=False)["input_ids"]
    begin = len(tokenizer(prompt, verbose=False)["input_ids"]) if which == "target" else 1
    begin = max(1, min(begin, len(ids) - 1))
    if len(ids) < 2:
        raise ValueError(
            f"the benchmark document {text!r} has {len(ids)} token, at least 2 are "
            "needed to score it; set contamination.removed_share to 0"
        )
    cut = max(0, len(ids) - (num_positions or len(ids)))
    return ids[cut:], [at >= begin for at in range(cut, len(ids))]
