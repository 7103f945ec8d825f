"""The benchmark documents that an accuracy is the mean of, at every checkpoint."""

from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow.parquet as pq

from store.artifacts import Artifact
from store.tables import SeriesArtifacts

COLUMNS = ["domain", "benchmark", "document_id", "value"]


def documents_of(
    series: Sequence[SeriesArtifacts], accuracy: Mapping[str, str | None]
) -> dict[tuple[str, str], pd.DataFrame]:
    """Metric of each document by (series, domain): documents down, steps across, in [0, 1].

    `accuracy` names the benchmark of each domain; one that was not scored is left out, and so are
    documents that were removed because they look contaminated.
    """
    found = {}
    for one in series:
        if one["generalization"] is None or one["contamination"] is None:
            continue
        removed = _removed(one["contamination"])
        for domain, values in _scored(one["steps"], one["scores"], accuracy).items():
            counted = values.loc[~values.index.isin(removed.get(accuracy[domain] or "", ()))]
            found[one["name"], domain] = counted
    return found


def _scored(
    steps: Sequence[int], scores: Sequence[Artifact], accuracy: Mapping[str, str | None]
) -> dict[str, pd.DataFrame]:
    by_domain: dict[str, dict[int, pd.Series]] = {}
    for step, artifact in zip(steps, scores, strict=True):
        file = artifact.path / "benchmark_documents.parquet"
        for (domain, benchmark), rows in (
            pq.read_table(file, columns=COLUMNS).to_pandas().groupby(["domain", "benchmark"])
        ):
            if accuracy.get(domain) == benchmark:
                values = rows.set_index("document_id")["value"]
                by_domain.setdefault(domain, {})[step] = values
    return {domain: pd.DataFrame(values) for domain, values in by_domain.items()}


def _removed(contamination: Artifact) -> dict[str, set[int]]:
    rows = pq.read_table(contamination.path / "contamination.parquet").to_pandas()
    removed = rows[rows["removed"]].groupby("benchmark")["document_id"]
    return {str(benchmark): set(ids) for benchmark, ids in removed}
