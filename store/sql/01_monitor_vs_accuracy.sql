-- Every monitor beside the accuracy and the losses of the same checkpoint: one row per series,
-- domain, step and monitor.
SELECT
    curves.series,
    series.role,
    curves.domain,
    curves.step,
    checkpoints.tokens_seen,
    curves.monitor,
    curves.value,
    accuracy.value AS accuracy,
    training.value AS training_loss,
    validation.value AS validation_loss
FROM curves
LEFT JOIN series USING (series)
LEFT JOIN domains USING (domain)
LEFT JOIN monitors USING (monitor)
LEFT JOIN checkpoints USING (series, step)
LEFT JOIN curves AS accuracy
    ON (accuracy.series, accuracy.domain, accuracy.step) = (curves.series, curves.domain, curves.step)
    AND accuracy.monitor = 'accuracy'
LEFT JOIN curves AS training
    ON (training.series, training.domain, training.step) = (curves.series, curves.domain, curves.step)
    AND training.monitor = 'training_loss'
LEFT JOIN curves AS validation
    ON (validation.series, validation.domain, validation.step)
        = (curves.series, curves.domain, curves.step)
    AND validation.monitor = 'validation_loss'
WHERE curves.monitor <> 'accuracy'
ORDER BY series.position, domains.position, curves.monitor, curves.step;
