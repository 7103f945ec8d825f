-- What each step of the study took: artifacts, mebibytes on disk and seconds of work.
SELECT
    step_name,
    count(*) AS num_artifacts,
    round(sum(num_bytes) / 1048576, 2) AS mebibytes,
    round(sum(seconds), 1) AS seconds,
    round(max(seconds), 1) AS slowest_seconds
FROM artifacts
GROUP BY step_name
ORDER BY sum(num_bytes) DESC, step_name;
