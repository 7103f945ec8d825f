-- Share of each benchmark's documents generalized by each checkpoint (0 to 1). The last checkpoint
-- counts every document that is right there, as nothing comes after it.
SELECT
    checkpoints.series,
    generalization.domain,
    generalization.benchmark,
    checkpoints.step,
    count(*) AS num_documents,
    count(*) FILTER (generalization.generalization_step <= checkpoints.step) AS num_generalized,
    num_generalized / num_documents AS share_generalized
FROM checkpoints
JOIN generalization USING (series)
LEFT JOIN domains USING (domain)
GROUP BY
    checkpoints.series,
    generalization.domain,
    domains.position,
    generalization.benchmark,
    checkpoints.step
ORDER BY checkpoints.series, domains.position, generalization.benchmark, checkpoints.step;
