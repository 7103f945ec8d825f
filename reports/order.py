"""What came first in each domain of the main series: low loss, memorization or accuracy.

Loss and accuracy are compared at the same share of their way; and what counts as memorized is held
against the loss of held-out samples at the same step.
"""

from collections import Counter
from collections.abc import Sequence

from reports.figures import Names, Read, Row
from reports.words import listed

ORDER_SQL = """with curve as (
  select series, domain, monitor, step, value,
    first_value(value) over (partition by series, domain, monitor order by step) as start,
    last_value(value) over (partition by series, domain, monitor order by step
      rows between unbounded preceding and unbounded following) as finish
  from curves where monitor in ('accuracy', 'training_loss') and value is not null
), way as (
  select *, (value - start) / nullif(finish - start, 0) as gone from curve
), reached as (
  select series, domain,
    min(step) filter (monitor = 'training_loss' and gone >= 0.5) as loss_step,
    min(step) filter (monitor = 'accuracy' and gone >= 0.5) as accuracy_step
  from way group by all
), ends as (
  select series, max(step) as last from checkpoints group by all
), half as (
  select series, domain, quantile_disc(memorization_step, 0.5) as memorized_step
  from memorization join ends using (series) where memorization_step < last group by all
)
select * from reached full join half using (series, domain)
full join memorization_thresholds using (series, domain)
left join (select series, domain, training_loss, validation_loss, is_memorized
  from memorization_evidence) using (series, domain) order by all"""

GIVEN = "epsilon given by the study"
"""Note of a threshold that was not found by the share (tasks/analysis.py)."""


def order_of_events(read: Read, names: Names, risen: set[tuple[str, str]]) -> list[str]:
    """One sentence per domain in which accuracy rises, and one on the loss thresholds.

    Parameters
    ----------
    risen
        (series, domain) pairs whose accuracy rises; elsewhere the order means nothing. Thresholds
        are reported for every series: the control's decide what its memorized share means.
    """
    rows = read(ORDER_SQL)
    rows.sort(key=lambda row: list(names.domains).index(row["domain"]))
    mains = {series for series, _ in risen}
    events = [
        _sentence(row, names, of_series=len(mains) > 1)
        for row in rows
        if (row["series"], row["domain"]) in risen
    ]
    return events + _worth(rows, names) + _thresholds(rows, names)


def _sentence(row: Row, names: Names, *, of_series: bool) -> str:
    events = [
        (row["loss_step"], "the training loss has gone half of its way by step {}"),
        (row["accuracy_step"], "accuracy has gone half of its way by step {}"),
        (row["memorized_step"], "half of the samples memorized before the end are so by step {}"),
    ]
    sentences = [
        text.format(f"{step:,}") for step, text in sorted(e for e in events if e[0] is not None)
    ]
    place = names.of("domain", row["domain"])
    place += f", {names.of('series', row['series'])}" if of_series else ""
    return f"{place}: {', '.join(sentences)}."


def _worth(rows: Sequence[Row], names: Names) -> list[str]:
    """Where samples count as memorized that are known hardly better than held-out ones."""
    doubtful = [row for row in rows if row["is_memorized"] is False and row["memorized_step"]]
    several = len({row["series"] for row in rows}) > 1
    sentences = []
    for row in doubtful:
        place = names.of("domain", row["domain"])
        place += f", {names.of('series', row['series'])}" if several else ""
        sentences.append(
            f"{place}: {row['share_memorized'] * 100:.1f} % of the samples count as memorized "
            f"before the end by the paper's rule, but at step {row['memorized_step']:,}, by which "
            f"half of these do, the training loss is {row['training_loss']:.3g} and the "
            f"validation loss {row['validation_loss']:.3g}: training samples on average are known "
            "hardly better than held-out ones, so no delay is shown."
        )
    return sentences


def _thresholds(rows: Sequence[Row], names: Names) -> list[str]:
    """Where the share memorized before the end misses its range, and what that does."""
    judged = [row for row in rows if row["in_range"] is not None]
    missed = [row for row in judged if not row["in_range"]]
    if not missed:
        return []
    missed_of, judged_of = (Counter(row["series"] for row in some) for some in (missed, judged))
    where = listed(
        [
            f"{missed_of[series]} of {judged_of[series]} domains of {names.of('series', series)}"
            for series in names.series
            if missed_of[series]
        ]
    )
    shares = sorted(row["share_memorized"] for row in missed)
    low, high = (f"{missed[0][end] * 100:.0f}" for end in ("share_low", "share_high"))
    span = " to ".join(dict.fromkeys(f"{share * 100:.1f}" for share in (shares[0], shares[-1])))
    sentences = (
        f"In {where} the share memorized before the last checkpoint is outside the wanted {low} to "
        f"{high} %: it is {span} %."
    )
    automatic = all(row["note"] != GIVEN for row in missed)
    if automatic and all(row["share_memorized"] > row["share_high"] for row in missed):
        sentences += (
            " What decides there is how long a sample's loss wobbles around its final value, not "
            "when it becomes low."
        )
    elif all(row["share_memorized"] < row["share_low"] for row in missed):
        sentences += " There too few samples count as memorized for their steps to say much."
    return [sentences]
