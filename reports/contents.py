"""What the page holds: figures and tables by section, and where the paper's own are found."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from reports.figures import Figure
from reports.sections import SECTIONS, Section
from reports.tables import ReadTable


@dataclass(frozen=True)
class Counterpart:
    """One figure or table of the paper, and where its like stands on the page."""

    paper: str
    title: str
    anchor: str
    missing: str = ""


# Its table has a page of its own (correlations.html), not a query whose rows are the table.
TABLE_1 = Counterpart("Table 1", "Monitors against accuracy", "correlations")


def sections_with_content(items: Sequence[Figure | ReadTable]) -> list[Section]:
    """Sections that hold anything; a figure that is missing says why, so it counts."""
    used = {item.question.section for item in items}
    return [section for section in SECTIONS if section.page or section.name in used]


def counterparts(items: Sequence[Figure | ReadTable]) -> list[Counterpart]:
    """What of the paper is shown where, in the paper's order."""
    found = [
        Counterpart(
            part,
            item.question.title,
            item.anchor,
            "" if item.is_there else item.question.missing,
        )
        for item in items
        for part in item.question.paper.split("; ")
        if part
    ]
    return sorted([*found, TABLE_1], key=lambda one: _place_in_paper(one.paper))


def _place_in_paper(part: str) -> tuple[str, int, str]:
    kind, _, rest = part.partition(" ")
    number = "".join(itertools.takewhile(str.isdigit, rest))
    return kind, int(number or 0), rest
