-- Each monitor against accuracy with its tests, rounded and ordered for reading. Trust the detrended
-- columns: two series that both trend correlate whether they have to do with each other or not. The
-- p-values belong to detrended_spearman, at the lag by which the monitor leads accuracy (checkpoints,
-- negative where it lags); Holm's correction is per series and window, over the monitors of one
-- family and all domains.
SELECT
    correlations.series,
    correlations.domain,
    correlations.window,
    coalesce(monitors.title, correlations.monitor) AS monitor,
    correlations.num_checkpoints AS n,
    round(correlations.pearson, 3) AS pearson,
    round(correlations.pearson_low, 3) AS pearson_low,
    round(correlations.pearson_high, 3) AS pearson_high,
    round(correlations.spearman, 3) AS spearman,
    round(correlations.difference_spearman, 3) AS detrended_spearman,
    correlations.difference_lag AS lag,
    round(correlations.difference_p, 4) AS detrended_p,
    round(correlations.holm_p, 4) AS detrended_p_holm,
    round(correlations.difference_smallest_p, 6) AS smallest_p_possible,
    monitors.expected_direction,
    correlations.verdict,
    correlations.note
FROM correlations
LEFT JOIN series USING (series)
LEFT JOIN domains USING (domain)
LEFT JOIN monitors USING (monitor)
ORDER BY series.position, correlations.window, correlations.monitor, domains.position;
