-- What it is worth that samples count as memorized: mean training and validation loss at the step by
-- which half of the samples memorized before the end are so. Memorized samples are known better than
-- held-out ones: is_memorized is false where none is memorized before the end or the training loss
-- there is above 90 % of the validation loss, null without validation samples.
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
rise AS (
    SELECT series, domain, arg_max(value, step) - arg_min(value, step) AS accuracy_rise
    FROM curves
    WHERE monitor = 'accuracy' AND value IS NOT NULL
    GROUP BY series, domain
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
