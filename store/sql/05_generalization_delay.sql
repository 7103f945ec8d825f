-- How long generalization lags behind memorization: the median step of each among the samples and
-- documents (headline benchmark) that got there before the final checkpoint, and the difference in
-- optimizer steps. It means something only where memorization is in range and accuracy rises. Groups
-- of the final step are left out: nothing comes after it that could speak against them.
WITH ends AS (
    SELECT series, max(step) AS step
    FROM checkpoints
    GROUP BY series
),
memorized AS (
    SELECT
        memorization.series,
        memorization.domain,
        median(memorization_step) FILTER (memorization_step < ends.step) AS step,
        count(*) FILTER (memorization_step < ends.step) AS num
    FROM memorization
    JOIN ends USING (series)
    GROUP BY memorization.series, memorization.domain
),
generalized AS (
    SELECT
        generalization.series,
        generalization.domain,
        median(generalization_step) FILTER (generalization_step < ends.step) AS step,
        count(*) FILTER (generalization_step < ends.step) AS num
    FROM generalization
    JOIN domains USING (domain, benchmark)
    JOIN ends USING (series)
    GROUP BY generalization.series, generalization.domain
)
SELECT
    series,
    domain,
    memorized.num AS num_memorized,
    generalized.num AS num_generalized,
    memorization_thresholds.in_range AS memorization_in_range,
    accuracy.rise AS accuracy_rise,
    memorized.step AS median_memorization_step,
    generalized.step AS median_generalization_step,
    generalized.step - memorized.step AS delay
FROM memorized
JOIN generalized USING (series, domain)
LEFT JOIN memorization_thresholds USING (series, domain)
LEFT JOIN (
    SELECT series, domain, arg_max(value, step) - arg_min(value, step) AS rise
    FROM curves
    WHERE monitor = 'accuracy'
    GROUP BY series, domain
) AS accuracy USING (series, domain)
LEFT JOIN domains USING (domain)
ORDER BY series, domains.position;
