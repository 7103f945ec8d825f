-- Samples by the step at which they were memorized: the groups of arXiv 2506.21551, sec. 3.1.
SELECT series, domain, memorization_step AS group_step, count(*) AS num_samples
FROM memorization
LEFT JOIN domains USING (domain)
WHERE memorization_step IS NOT NULL
GROUP BY series, domain, domains.position, memorization_step
ORDER BY series, domains.position, memorization_step;
