"""What the page holds: figures and tables by section, and where the paper's own are found."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.figures import Figure
from reports.questions import SECTIONS, Section
from reports.tables import ReadTable


@dataclass(frozen=True)
class Link:
    """A place on the page, why it is empty if it is, and for which part of the paper it stands."""

    title: str
    anchor: str
    missing: str = ""
    part: str = ""


@dataclass(frozen=True)
class Counterpart:
    """One figure or table of the paper, or several, and where its likes stand on the page."""

    paper: str
    links: tuple[Link, ...]
    note: str = ""


# Its table has a page of its own (correlations.html), not a query whose rows are the table.
TABLE_1 = ("Table 1", Link("Monitors against accuracy", "correlations"))
KINDS = ("Figure", "Table", "App.")
IN_APPENDICES = "Figures 10, 11, 12, 13, 14, 15; Tables 3, 4, 5"
UNVERIFIED = "listed by subject; which number belongs to which section was not verified"
SUBJECTS = {
    "App. B.1": "groups and their pairing",
    "App. D": "router dynamics",
    "App. E.2": "thresholds of the pathway",
    "App. E.3": "thresholds of memorization",
    "App. E.4": "samples of two domains",
    "App. E.5": "routing entropy",
    "App. E.6": "a second model",
}


def sections_with_content(items: Sequence[Figure | ReadTable]) -> list[Section]:
    """Sections that hold anything; a figure that is missing says why, so it counts."""
    used = {item.question.section for item in items}
    return [section for section in SECTIONS if section.page or section.name in used]


def counterparts(items: Sequence[Figure | ReadTable]) -> list[Counterpart]:
    """What of the paper is shown where, in the paper's order; its appendices in one row."""
    found: dict[str, list[Link]] = {TABLE_1[0]: [TABLE_1[1]]}
    for item in items:
        link = Link(
            item.question.title, item.anchor, "" if item.is_there else item.question.missing
        )
        for part in filter(None, item.question.paper.split("; ")):
            found.setdefault(part, []).append(link)
    ordered = sorted(found, key=_place_in_paper)
    rows = [Counterpart(part, tuple(found[part])) for part in ordered if part not in SUBJECTS]
    by_subject = [
        replace(link, part=f"{part}, {SUBJECTS[part]}")
        for part in ordered
        if part in SUBJECTS
        for link in found[part]
    ]
    return [*rows, Counterpart(IN_APPENDICES, tuple(by_subject), UNVERIFIED)]


def _place_in_paper(part: str) -> tuple[int, int, str]:
    kind, _, rest = part.partition(" ")
    number = "".join(itertools.takewhile(str.isdigit, rest))
    return KINDS.index(kind), int(number or 0), rest
