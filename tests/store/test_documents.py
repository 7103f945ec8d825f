from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq

from store.documents import documents_of


def artifact(folder, file, **columns):
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / file)
    return SimpleNamespace(path=folder)


def test_documents_are_those_of_the_benchmark_that_is_read_as_accuracy(tmp_path):
    def scored(step, math):
        return artifact(
            tmp_path / f"{step}",
            "benchmark_documents.parquet",
            domain=["math"] * 3 + ["math"],
            benchmark=["exam_math"] * 3 + ["other"],
            document_id=[0, 1, 2, 0],
            value=[*math, 1.0],
        )

    removed = artifact(
        tmp_path / "contamination",
        "contamination.parquet",
        benchmark=["exam_math", "exam_math", "exam_math", "other"],
        document_id=[0, 1, 2, 1],
        removed=[False, False, True, True],
    )
    series = [
        {
            "name": "main",
            "steps": [0, 10],
            "scores": [scored(0, [0.0, 0.5, 1.0]), scored(10, [1.0, 0.5, 1.0])],
            "generalization": removed,
            "contamination": removed,
        },
        {"name": "not scored", "generalization": None, "contamination": None},
    ]
    accuracy = {"math": "exam_math", "code": "exam_code", "text": None}
    found = documents_of(series, accuracy)
    assert list(found) == [("main", "math")]
    assert found["main", "math"].to_dict("split") == {
        "index": [0, 1],
        "columns": [0, 10],
        "data": [[0.0, 1.0], [0.5, 0.5]],
    }
