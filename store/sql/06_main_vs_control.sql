-- Each monitor (and the accuracy) of a main series beside that of a control series, step by step. A
-- monitor that does the same in both cannot by itself show generalization.
SELECT
    main.domain,
    main.monitor,
    main.step,
    main.series AS main_series,
    control.series AS control_series,
    main.value AS main,
    control.value AS control,
    main.value - control.value AS difference
FROM curves AS main
JOIN series AS main_series ON main_series.series = main.series AND main_series.role = 'main'
JOIN curves AS control USING (domain, monitor, step)
JOIN series AS control_series
    ON control_series.series = control.series AND control_series.role = 'control'
LEFT JOIN domains USING (domain)
ORDER BY
    main_series.position,
    control_series.position,
    main.monitor,
    domains.position,
    main.step;
