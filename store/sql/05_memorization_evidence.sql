-- What it is worth that samples count as memorized: mean training and validation loss at the step by
-- which half of the samples memorized before the end are so. Where training samples are memorized they
-- are known better than held-out ones: is_memorized is false where none is memorized before the end or
-- the mean training loss there is above 90 % of the mean validation loss, null without validation
-- samples. accuracy_rise is what the last accuracy has above the first and above the largest of every
-- control, null in controls; delay_means_something leaves the check of losses out where it is null.
WITH ends AS (
    SELECT series, max(step) AS step
    FROM checkpoints
    GROUP BY series
),
half AS (
    SELECT
        memorization.series,
        memorization.domain,
        quantile_disc(memorization_step, 0.5) FILTER (memorization_step < ends.step) AS step
    FROM memorization
    JOIN ends USING (series)
    GROUP BY memorization.series, memorization.domain
),
accuracy AS (
    SELECT
        series,
        domain,
        arg_min(value, step) AS first,
        arg_max(value, step) AS last,
        max(value) AS largest
    FROM curves
    WHERE monitor = 'accuracy' AND value IS NOT NULL
    GROUP BY series, domain
),
rise AS (
    SELECT
        mine.series,
        mine.domain,
        any_value(mine.last) - greatest(
            any_value(mine.first),
            coalesce(max(control.largest), any_value(mine.first))
        ) AS accuracy_rise
    FROM accuracy AS mine
    JOIN series AS my USING (series)
    LEFT JOIN series AS other
        ON other.role = 'control'
        AND (
            other.control_for = mine.series
            OR (other.control_for IS NULL AND my.role = 'main')
        )
    LEFT JOIN accuracy AS control
        ON control.series = other.series AND control.domain = mine.domain
    WHERE my.role <> 'control'
    GROUP BY mine.series, mine.domain
),
loss AS (
    SELECT
        series,
        domain,
        step,
        max(value) FILTER (monitor = 'training_loss') AS training,
        max(value) FILTER (monitor = 'validation_loss') AS validation
    FROM curves
    GROUP BY series, domain, step
)
SELECT
    half.series,
    half.domain,
    thresholds.share_memorized,
    half.step AS median_memorization_step,
    loss.training AS training_loss,
    loss.validation AS validation_loss,
    CASE
        WHEN half.step IS NULL THEN false
        WHEN loss.validation IS NULL THEN NULL
        ELSE loss.training <= 0.9 * loss.validation
    END AS is_memorized,
    rise.accuracy_rise,
    coalesce(is_memorized, true) AND coalesce(rise.accuracy_rise, 0) >= 0.1 AS delay_means_something
FROM half
LEFT JOIN memorization_thresholds AS thresholds USING (series, domain)
LEFT JOIN rise USING (series, domain)
LEFT JOIN loss
    ON (loss.series, loss.domain, loss.step) = (half.series, half.domain, half.step)
LEFT JOIN domains USING (domain)
ORDER BY half.series, domains.position;
