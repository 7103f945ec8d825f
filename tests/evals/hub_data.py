"""Data sets in their real formats, a few documents each, for the hub on loopback."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from tests.loopback_hub import LoopbackHub

QUESTIONS = [(f"w{i} + w{i + 1} = ?", str(2 * i + 1)) for i in range(6)]
ARC_CARD = b"""---
configs:
- config_name: ARC-Easy
  data_files:
  - {split: train, path: "ARC-Easy/train-*"}
  - {split: validation, path: "ARC-Easy/validation-*"}
  - {split: test, path: "ARC-Easy/test-*"}
---
"""


def parquet(rows: list[dict]) -> bytes:
    """Rows as the content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def add_dart_math(hub: LoopbackHub) -> str:
    """The pool: a row for each of three solutions per question; its commit."""
    rows = [
        {
            "query": query,
            "query4test": False,
            "gt_ans": answer,
            "query_metadata": {"level": 1},
            "resp": f"The answer is: {answer}",
        }
        for query, answer in QUESTIONS
        for _ in range(3)
    ]
    files = {"data/train-00000-of-00001.parquet": parquet(rows)}
    return hub.add_revision("dataset", "hkust-nlp/dart-math-pool-math", "main", files)


def add_arc(hub: LoopbackHub, num_test: int = 12) -> str:
    """ARC-Easy with one-word questions; its commit."""

    def rows(first: int, num: int) -> bytes:
        return parquet(
            [
                {
                    "id": f"q{i}",
                    "question": f"w{i % 40} + w{i * 7 % 40} =",
                    "choices": {
                        "text": [f"w{(i * 3 + j) % 40}" for j in range(4)],
                        "label": list("ABCD"),
                    },
                    "answerKey": "ABCD"[i * 5 % 4],
                }
                for i in range(first, first + num)
            ]
        )

    files = {
        "README.md": ARC_CARD,
        "ARC-Easy/train-00000-of-00001.parquet": rows(0, 8),
        "ARC-Easy/validation-00000-of-00001.parquet": rows(8, 3),
        "ARC-Easy/test-00000-of-00001.parquet": rows(20, num_test),
    }
    return hub.add_revision("dataset", "allenai/ai2_arc", "main", files)
