"""Figures of the routing measures of the field, each beside its null or random routing."""

from reports.question import MAIN, Question


def _of_field(measure: str, title: str, caption: str) -> Question:
    return Question(
        name=measure,
        section="field",
        title=title,
        caption=caption
        + " Where drawn beside them: what the main series gives without the structure asked for.",
        sql=f"""select domain, series as which, step, value from routing_measures
where measure = '{measure}' and layer is null and domain <> 'all' and value is not null
union all
select domain, baseline_kind, step, baseline from routing_measures
where measure = '{measure}' and layer is null and domain <> 'all' and baseline is not null
  and series = {MAIN} order by all""",
        missing="no routing of single tokens was measured",
        line="which",
        shared=False,
    )


FIELD: tuple[Question, ...] = (
    _of_field(
        "saturation_top_k",
        "Router saturation",
        "Share of a token's experts that the last checkpoint chooses too.",
    ),
    Question(
        name="drift",
        section="field",
        title="Drift: experts that two checkpoints have in common",
        caption="Share of a token's experts chosen at both of two checkpoints, mean of domains. "
        "Dark blocks are stretches in which routing hardly changes.",
        sql="""select series, step_a as x, step_b as y, avg(top_k_overlap) as value from drift
group by all union all
select series, step_b, step_a, avg(top_k_overlap) from drift where step_a <> step_b
group by all order by all""",
        missing="no routing of single tokens was measured",
        panels=("series",),
        kind="matrix",
        x_title="step",
        y_title="step",
        format=".2f",
        shared=False,
    ),
    Question(
        name="expert_use",
        section="field",
        title="Which domain uses which expert",
        caption="Share of a domain's tokens that choose the expert (arXiv 2409.02060), by layer, "
        "at the last checkpoint of the main series. With k of K experts per token the shares of a "
        "domain sum to k in each layer; k/K is what even use gives.",
        sql=f"""select layer, expert as x, domain as y, token_share as value
from expert_use join domains using (domain)
where series = {MAIN} and step = (select max(step) from checkpoints where series = {MAIN})
order by layer, expert, position""",
        missing="no routing of single tokens was measured",
        panels=("layer",),
        y_names="domain",
        kind="matrix",
        x_title="expert",
        format=".2f",
    ),
    Question(
        name="coactivation",
        section="field",
        title="Experts chosen together",
        caption="Share of the tokens of one expert (up) that also choose another (across), last "
        "checkpoint of the main series, all domains.",
        sql=f"""select layer, other as x, expert as y, share as value from coactivation
where series = {MAIN} and step = (select max(step) from checkpoints where series = {MAIN})
order by all""",
        missing="one expert is chosen per token",
        panels=("layer",),
        kind="matrix",
        x_title="expert",
        y_title="expert",
        format=".2f",
    ),
    _of_field(
        "token_entropy",
        "Routing entropy of single tokens",
        "Entropy of a token's routing weights, nats.",
    ),
    _of_field(
        "boundary_margin_logit_p50",
        "Boundary margin",
        "Median distance, in logits, between the last expert chosen and the first that is not.",
    ),
    _of_field(
        "load_max_violation",
        "Overload of the busiest expert (MaxVio)",
        "Largest load over the mean load, less 1.",
    ),
    _of_field(
        "effective_experts",
        "Effective number of experts",
        "Exponential of the entropy of expert load; K where load is even.",
    ),
    _of_field(
        "domain_specialisation",
        "Domain specialisation",
        "How far a domain's expert load is from that of the other domains; 1 is no expert in "
        "common.",
    ),
    _of_field(
        "vocabulary_specialisation",
        "Vocabulary specialisation",
        "Share of a token's occurrences that go to its favourite expert.",
    ),
    _of_field(
        "coactivation_strongest",
        "Co-activation with the strongest partner",
        "Share of an expert's tokens that also choose its most frequent partner.",
    ),
    _of_field(
        "path_entropy_2",
        "Entropy of routes over two layers",
        "How many different pairs of experts samples take through neighbouring layers.",
    ),
    _of_field(
        "congestion_coefficient",
        "Congestion coefficient",
        "How much load, in place of quality, decides which expert is chosen.",
    ),
    Question(
        name="signature",
        section="field",
        title="Separation of domains by routing signatures",
        caption="Mean cosine of routing weights within domains less that between domains; 0 where "
        "domains do not matter. Beside it, for the main series, the same with every sample's "
        "experts drawn anew with the load of all domains.",
        sql=f"""select 'all domains' as what, series as which, step, value from routing_measures
where measure = 'signature_separation' and value is not null
union all select 'all domains', 'load-preserving null', step, value from routing_measures
where measure = 'signature_separation_same_load' and value is not null and series = {MAIN}
order by all""",
        missing="the study has one domain",
        panels=("what",),
        line="which",
    ),
)
