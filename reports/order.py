"""What came first in each domain of the main series: low loss, memorization or accuracy."""

from reports.figures import Names, Read, Row

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
    min(step) filter (monitor = 'training_loss' and gone >= 0.9) as loss_step,
    min(step) filter (monitor = 'accuracy' and gone >= 0.5) as accuracy_step
  from way group by all
), half as (
  select series, domain, quantile_disc(memorization_step, 0.5) as memorized_step
  from memorization where memorization_step is not null group by all
)
select * from reached left join half using (series, domain)
left join memorization_thresholds using (series, domain) order by all"""


def order_of_events(read: Read, names: Names, risen: set[tuple[str, str]]) -> list[str]:
    """One sentence per domain in which accuracy rises, and one on the loss thresholds.

    Parameters
    ----------
    risen
        (series, domain) pairs whose accuracy rises; elsewhere the order means nothing.
    """
    rows = [row for row in read(ORDER_SQL) if (row["series"], row["domain"]) in risen]
    rows.sort(key=lambda row: list(names.domains).index(row["domain"]))
    return [_sentence(row, names) for row in rows] + _thresholds(rows)


def _sentence(row: Row, names: Names) -> str:
    events = [
        (row["loss_step"], "the training loss has gone 90 % of its way by step {}"),
        (row["accuracy_step"], "accuracy has gone half of its way by step {}"),
        (row["memorized_step"], "half of the memorized samples count as memorized by step {}"),
    ]
    told = [
        text.format(f"{step:,}") for step, text in sorted(e for e in events if e[0] is not None)
    ]
    return f"{names.of('domain', row['domain'])}: {', '.join(told)}."


def _thresholds(rows: list[Row]) -> list[str]:
    missed = [row for row in rows if row["in_range"] is False]
    if not missed:
        return []
    low, high = missed[0]["share_low"] * 100, missed[0]["share_high"] * 100
    return [
        f"In {len(missed)} of {len(rows)} domains no loss threshold in steps of 0.1 brings the "
        f"share memorized before the last checkpoint to {low:.0f} to {high:.0f} %; the nearest is "
        "taken. What decides there is how long a sample's loss wobbles around its final value."
    ]
