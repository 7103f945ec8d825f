"""Figures beyond the main ones: controls, nulls, dynamics, candidates, frozen routers."""

from reports.field import FIELD
from reports.question import MAIN, Question, curve

FURTHER: tuple[Question, ...] = (
    Question(
        name="paired_groups",
        section="groups",
        title="Paired groups: loss and accuracy",
        caption="The three largest pairs of each domain in the main series and in its first "
        "control: mean loss of the training group as a share of its largest, and accuracy on the "
        "benchmark group matched to it. Grokking is the second rising after the first is flat; but "
        "as a benchmark group is made of the documents that stay right from one step on, its rise "
        "at that step is how it was chosen and no finding. Groups of the last checkpoint, where "
        "nothing comes after, are left out.",
        sql=f"""with pairs as (
  select *, role || ': memorized ' || memorization_step || ', generalized ' || generalization_step
    as pair
  from pairing join (select series, role from series where series = {MAIN}
    or series = (select series from series where role = 'control' order by position limit 1))
  using (series)
  where delay is not null
    and greatest(memorization_step, generalization_step) < (select max(step) from checkpoints)
  qualify row_number() over (partition by domain, series order by num_samples desc, delay) <= 3
)
select p.domain, pair, 'training loss, share of its largest' as quantity, m.step,
  m.value / max(m.value) over (partition by p.domain, pair) as value
from pairs p join pathway_metrics m on (m.series, m.domain, m.group_step)
  = (p.series, p.domain, p.memorization_step)
where m.scope = 'group' and m.metric = 'training_loss'
union all
select p.domain, pair, 'accuracy', b.step, avg(b.correct::int)
from pairs p
join domains d using (domain)
join generalization g on (g.series, g.domain, g.benchmark, g.generalization_step)
  = (p.series, p.domain, d.benchmark, p.generalization_step)
join benchmark_documents b on (b.series, b.domain, b.benchmark, b.document_id)
  = (g.series, g.domain, g.benchmark, g.document_id)
group by all order by all""",
        missing="no training group could be paired with a benchmark group",
        panels=("domain", "pair"),
        line="quantity",
        format=".0%",
        domain=(0.0, 1.0),
        paper="Figure 1; Figure 2",
    ),
    Question(
        name="group_similarity",
        section="groups",
        title="Likeness of training and benchmark groups",
        caption="Mean cosine similarity of the texts of every training group (across) and "
        "benchmark group (up), by the steps of memorization and generalization, main series. The "
        "pairing picks one cell per row and column with the largest sum.",
        sql=f"""select domain, memorization_step as x, generalization_step as y, similarity as value
from group_similarity where series = {MAIN} order by all""",
        missing="there are no groups on both sides",
        kind="matrix",
        x_title="memorized at step",
        y_title="generalized at step",
        shared=False,
        paper="App. B.1",
    ),
    Question(
        name="global_distance",
        section="pathways",
        title="Pathway distance over all domains together",
        caption="Mean distance over pairs drawn from the samples of all domains, raw and "
        "length-normalised. Each chart has its own scale.",
        sql="""select if(metric = 'pathway_distance', 'characters', 'share of the longer') as unit,
  series, step, value from pathway_metrics
where scope = 'global' and metric in ('pathway_distance', 'pathway_distance_normalized')
order by all""",
        missing="no pathways were measured",
        panels=("unit",),
        shared=False,
        paper="Figure 4",
    ),
    Question(
        name="global_consistency",
        section="pathways",
        title="Pathway consistency over all domains together",
        caption="Median consistency of the samples of all domains, and the plain cosine of "
        "neighbouring layers. Each chart has its own scale.",
        sql="""select replace(metric, '_', ' ') as what, series, step, value from pathway_metrics
where scope = 'global' and metric in ('pathway_consistency_median', 'layer_cosine')
  and value is not null order by all""",
        missing="no pathway consistency was measured (it needs two MoE layers)",
        panels=("what",),
        shared=False,
        paper="Figure 6",
    ),
    Question(
        name="thresholds",
        section="pathways",
        title="Pathway distance under other thresholds",
        caption="The same distance with pathways cut at other shares of routing weight τ, in "
        "characters, over the same sampled pairs.",
        sql="""select domain, series, 'τ = ' || threshold as threshold, step, value
from distance_variants
where unit = 'character' and not normalized
  and pair_seed = (select min(pair_seed) from distance_variants)
order by all""",
        missing="the study leaves the other settings out",
        panels=("domain", "series"),
        line="threshold",
        paper="Figure 9",
    ),
    Question(
        name="trends",
        section="pathways",
        title="Quadratic trends",
        caption="Pathway distance and median roughness (1 less the consistency: lower is smoother) "
        "of the main series with a parabola over the checkpoints' index, as the paper draws them. "
        "Points are what was measured.",
        sql=f"""with placed as (
  select *, row_number() over (partition by series, domain, monitor order by step) - 1 as place
  from curves where value is not null and series = {MAIN}
    and monitor in ('pathway_distance', 'pathway_consistency_median')
), drawn as (
  select domain, monitor, 'measured' as quantity, step, value from placed
  union all
  select domain, monitor, 'parabola', step, constant + linear * place + quadratic * place * place
  from placed join trend_fits using (series, domain, monitor)
  where abscissa = 'index' and quadratic is not null
)
select domain, if(monitor = 'pathway_distance', 'distance', 'roughness') as monitor, quantity, step,
  if(monitor = 'pathway_distance', value, 1 - value) as value
from drawn order by all""",
        missing="no curve is long enough for a parabola",
        panels=("domain", "monitor"),
        line="quantity",
        shared=False,
        paper="Figure 4; Figure 6",
    ),
    Question(
        name="cross_domain",
        section="controls",
        title="Distance between samples of two domains",
        caption="Mean pathway distance over pairs with one sample from each domain. The paper "
        "expects no trend: samples of different subjects have little to share.",
        sql="""select domain || ' × ' || other_domain as pair, series, step, value
from cross_domain where metric = 'pathway_distance' order by all""",
        missing="the study has one domain",
        panels=("pair",),
        paper="App. E.4",
    ),
    Question(
        name="entropy_control",
        section="controls",
        title="Pathway distance against routing entropy, over pairs",
        caption="Pearson correlation over pairs of samples between their mean routing entropy and "
        "their pathway distance, at each checkpoint; pathways cut at τ = 0.8. Its square is the "
        "share of the distance's variance that goes with how undecided the router is: 0.24, which "
        "the paper reports, is 6 %. Pairs share samples, so they are no independent points.",
        sql="""select domain, series, step, pearson as value from entropy_control
where pearson is not null order by all""",
        missing="no pairs could be correlated",
        domain=(-1.0, 1.0),
        paper="App. E.5",
    ),
    Question(
        name="linear_fits",
        section="correlations",
        title="Accuracy on each monitor, with a straight line",
        caption="One point per checkpoint of the main series: the monitor across, accuracy up; all "
        "checkpoints. The line's slope, R² and error stand in the table.",
        sql=f"""select coalesce(m.title, x.monitor) as which, x.domain, x.series, x.value as x,
  y.value from curves x join curves y using (series, domain, step)
join monitors m on m.monitor = x.monitor
where y.monitor = 'accuracy' and m.family = 'paper' and x.value is not null
  and y.value is not null and x.series = {MAIN} order by all""",
        missing="no accuracy was measured",
        panels=("which", "domain"),
        kind="scatter",
        format=".0%",
        shared=False,
        paper="Figure 7",
    ),
    Question(
        name="effective_dimension_tangent",
        section="bound",
        title="Effective dimension, tangent kernel",
        caption="The same with the experts' own tangent kernels at the samples' hidden states, "
        "on a sample of the probe set. At every checkpoint the kernel is scaled to a mean diagonal "
        "of 1, so this is the shape of its spectrum, not its growth.",
        sql="""select domain, series, step, effective_dimension as value from bound
where kernel = 'tangent' order by all""",
        missing="the model has no experts whose gradients are known in closed form",
    ),
    Question(
        name="frozen_router",
        section="frozen_router",
        title="Effective dimension against path distance",
        caption="One point per router: mean normalised edit distance of the samples' pathways "
        "across, effective dimension (tangent kernel) up; once with one factor for the kernels of "
        "all routers, once with each kernel's mean diagonal set to 1. The paper leaves this open, "
        "and the answer depends on it.",
        sql="""select replace(variant, '_', ' ') as variant, 'one factor' as kernel,
  'routers' as which, path_distance_normalized as x, effective_dimension as value
from frozen_router union all
select replace(variant, '_', ' '), 'each normalised', 'routers', path_distance_normalized,
  effective_dimension_normalized from frozen_router order by all""",
        missing="the study leaves the experiment out",
        panels=("variant", "kernel"),
        line="which",
        kind="scatter",
        shared=False,
        x_title="path distance",
        paper="Figure 8",
    ),
    Question(
        name="parameter_norms",
        section="dynamics",
        title="Norms of the weights",
        caption="L2 norm of all weights of a kind, read from the weight files.",
        sql="""select kind, series, step, norm as value from parameter_norms order by all""",
        missing="no weight file was read",
        panels=("kind",),
        shared=False,
        paper="App. D",
    ),
    Question(
        name="nulls",
        section="nulls",
        title="Pathway distance on pathways that mean nothing",
        caption="Main series: the distance per expert; the same where every sample keeps how many "
        "experts its pathway has in each layer and draws them as often as the layer uses them; "
        "and where it draws them evenly. What lies below the load-preserving null is not explained "
        "by load and pathway length.",
        sql=f"""select distinct domain, 'measured' as quantity, step, value from nulls
where monitor = 'pathway_distance_expert' and series = {MAIN}
union all
select domain, replace(null_kind, '_', ' '), step, null_value from nulls
where monitor = 'pathway_distance_expert' and series = {MAIN} order by all""",
        missing="no null was measured",
        line="quantity",
    ),
    *(
        Question(
            name=f"candidate_{monitor}",
            section="leaderboard",
            title=title,
            caption=caption,
            sql=curve(monitor),
            missing="it was not measured",
            shared=False,
        )
        for monitor, title, caption in (
            (
                "kernel_alignment",
                "Alignment of the routing kernel with the answers",
                "How far samples with the same answer are routed alike; 1 is the same kernel.",
            ),
            (
                "likeness_answer_given_input",
                "Likeness of routing and answers beyond inputs",
                "Rank correlation over pairs of routing distance with different answers, the "
                "inputs' distance taken out.",
            ),
            (
                "distance_over_null",
                "Pathway distance over its load-preserving null",
                "Below 1 where samples share experts beyond what load makes them share.",
            ),
            (
                "distance_over_chance",
                "Pathway distance over that of relabelled experts",
                "Below 1 where samples share experts, whatever the pathways' length.",
            ),
            (
                "linear_input_share",
                "Share of routing variance linear in the inputs",
                "1 where each input token adds its own share to the routing.",
            ),
            (
                "dimension_over_null",
                "Effective dimension over that with layers shuffled",
                "Below 1 where layers agree on which samples are alike.",
            ),
        )
    ),
    *FIELD,
)
