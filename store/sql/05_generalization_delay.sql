-- How long generalization lags behind memorization: the median step of each among the samples and
-- documents (headline benchmark) that got there, and the difference in optimizer steps.
WITH memorized AS (
    SELECT series, domain, median(memorization_step) AS step, count(memorization_step) AS num
    FROM memorization
    GROUP BY series, domain
),
generalized AS (
    SELECT series, domain, median(generalization_step) AS step, count(generalization_step) AS num
    FROM generalization
    JOIN domains USING (domain, benchmark)
    GROUP BY series, domain
)
SELECT
    series,
    domain,
    memorized.num AS num_memorized,
    generalized.num AS num_generalized,
    memorized.step AS median_memorization_step,
    generalized.step AS median_generalization_step,
    generalized.step - memorized.step AS delay
FROM memorized
JOIN generalized USING (series, domain)
LEFT JOIN domains USING (domain)
ORDER BY series, domains.position;
