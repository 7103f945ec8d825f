-- Mean and median loss (nats per counted token) of each set of samples at each checkpoint.
SELECT
    series,
    domain,
    split,
    step,
    count(*) AS num_samples,
    avg(loss) AS mean_loss,
    median(loss) AS median_loss
FROM sample_losses
LEFT JOIN domains USING (domain)
GROUP BY series, domain, domains.position, split, step
ORDER BY series, domains.position, split, step;
