"""How many benchmark documents an accuracy is counted on."""

from collections.abc import Mapping

import pyarrow.parquet as pq

from store.artifacts import Artifact


def num_documents(
    generalization: Artifact | None, accuracy: Mapping[str, str | None]
) -> dict[str, int]:
    """Documents by domain, without those that were left out; `accuracy` names the benchmarks.

    A domain whose benchmark was not scored is left out.
    """
    if generalization is None:
        return {}
    rows = pq.read_table(
        generalization.path / "clean_scores.parquet", columns=["benchmark", "num_documents"]
    ).to_pylist()
    counts = {row["benchmark"]: row["num_documents"] for row in rows}
    return {
        domain: counts[benchmark] for domain, benchmark in accuracy.items() if benchmark in counts
    }
