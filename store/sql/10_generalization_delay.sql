-- How long generalization lags behind memorization: the (lower) median step of each among the samples and
-- documents (headline benchmark) that got there before the final checkpoint, and the difference in
-- optimizer steps; null in controls and where nothing was memorized or accuracy does not rise (the
-- view memorization_evidence). Groups of the final step are left out: nothing comes after it that could
-- speak against them.
WITH ends AS (
    SELECT series, max(step) AS step
    FROM checkpoints
    GROUP BY series
),
memorized AS (
    SELECT
        memorization.series,
        memorization.domain,
        quantile_disc(memorization_step, 0.5) FILTER (memorization_step < ends.step) AS step,
        count(*) FILTER (memorization_step < ends.step) AS num
    FROM memorization
    JOIN ends USING (series)
    GROUP BY memorization.series, memorization.domain
),
generalized AS (
    SELECT
        generalization.series,
        generalization.domain,
        quantile_disc(generalization_step, 0.5) FILTER (generalization_step < ends.step) AS step,
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
    evidence.is_memorized,
    evidence.accuracy_rise,
    memorized.step AS median_memorization_step,
    generalized.step AS median_generalization_step,
    if(evidence.delay_means_something, generalized.step - memorized.step, NULL) AS delay
FROM memorized
JOIN generalized USING (series, domain)
JOIN memorization_evidence AS evidence USING (series, domain)
LEFT JOIN memorization_thresholds USING (series, domain)
LEFT JOIN domains USING (domain)
ORDER BY series, domains.position;
