"""Checkpoints that are there and are not in a series: which, why, and what to do about it.

Every command names them. In the report stand those that will stay so: what the study skips, what
was measured once and is damaged now, what was deleted unmeasured, and what nobody has touched for
ten minutes. One that a training run is just writing would change the report with every look.
"""

from dataclasses import dataclass

STALE_SECONDS = 600.0


@dataclass(frozen=True)
class LeftOut:
    """One checkpoint that is left out.

    Attributes
    ----------
    series, revision, step
        Which one.
    reason
        Why, without what changes while files are written.
    advice
        The rest of the sentence: how far it is, and what to do.
    settled
        Whether it is to stand in the report.
    """

    series: str
    revision: str
    step: int
    reason: str
    advice: str = ""
    settled: bool = True

    def __str__(self) -> str:
        """The sentence that commands print."""
        return f"left out: {self.revision} of series {self.series}: {self.reason}{self.advice}"

    def row(self) -> dict[str, str | int]:
        """Its row of the table `left_out`."""
        return {
            "series": self.series,
            "revision": self.revision,
            "step": self.step,
            "reason": self.reason,
        }
