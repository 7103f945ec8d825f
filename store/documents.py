"""How many benchmark documents an accuracy is counted on."""

from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq

from store.artifacts import Artifact
from store.tables import SeriesArtifacts


def documents_of(
    series: Sequence[SeriesArtifacts], accuracy: Mapping[str, str | None]
) -> dict[tuple[str, str], int]:
    """Documents by (series, domain), without those that were left out.

    `accuracy` names the benchmark of each domain; one that was not scored is left out.
    """
    return {
        (one["name"], domain): number
        for one in series
        if one["generalization"] is not None
        for domain, number in _scored(one["generalization"], accuracy).items()
    }


def _scored(generalization: Artifact, accuracy: Mapping[str, str | None]) -> dict[str, int]:
    columns = ["benchmark", "num_documents"]
    scores = pq.read_table(generalization.path / "clean_scores.parquet", columns=columns)
    counts = {row["benchmark"]: row["num_documents"] for row in scores.to_pylist()}
    return {
        domain: counts[benchmark] for domain, benchmark in accuracy.items() if benchmark in counts
    }
