"""Where accuracy rises: elsewhere there is nothing that a monitor could follow."""

import pandas as pd

RISE = 0.10
"""Accuracy counts as risen when it ends this far above its start and above every control."""


def risen_cases(curves: pd.DataFrame, controls: dict[str, list[str]]) -> set[tuple[str, str]]:
    """The (series, domain) in which accuracy ends `RISE` above its start and above its controls."""
    accuracy = curves[curves["monitor"] == "accuracy"].dropna(subset=["value"]).sort_values("step")
    grouped = accuracy.groupby(["series", "domain"])["value"]
    first, last, largest = grouped.first(), grouped.last(), grouped.max()
    return {
        (str(series), str(domain))
        for series, domain in last.index
        if series in controls
        and last[series, domain]
        - max(
            [first[series, domain]]
            + [largest[other, domain] for other in controls[series] if (other, domain) in largest]
        )
        >= RISE
    }
