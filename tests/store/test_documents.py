from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

from store.documents import documents_of


def test_documents_are_counted_by_the_benchmark_that_is_read_as_accuracy(tmp_path):
    scores = {
        "step": [0, 0, 10, 10],
        "benchmark": ["exam_math", "other", "exam_math", "other"],
        "num_documents": [200, 7, 200, 7],
    }
    pq.write_table(pa.table(scores), tmp_path / "clean_scores.parquet")
    series = [
        {"name": "main", "generalization": SimpleNamespace(path=tmp_path)},
        {"name": "not scored", "generalization": None},
    ]
    accuracy = {"math": "exam_math", "code": "exam_code", "text": None}
    assert documents_of(series, accuracy) == {("main", "math"): 200}
