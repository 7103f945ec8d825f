-- Share of a domain's probe samples memorized by each checkpoint (0 to 1), beside its accuracy. The
-- last checkpoint counts every sample with a low loss, as it is compared with itself.
SELECT
    checkpoints.series,
    memorization.domain,
    checkpoints.step,
    count(*) AS num_samples,
    count(*) FILTER (memorization.memorization_step <= checkpoints.step) AS num_memorized,
    num_memorized / num_samples AS share_memorized,
    any_value(curves.value) AS accuracy
FROM checkpoints
JOIN memorization USING (series)
LEFT JOIN domains USING (domain)
LEFT JOIN curves
    ON (curves.series, curves.domain, curves.step)
        = (checkpoints.series, memorization.domain, checkpoints.step)
    AND curves.monitor = 'accuracy'
GROUP BY checkpoints.series, memorization.domain, domains.position, checkpoints.step
ORDER BY checkpoints.series, domains.position, checkpoints.step;
