-- A statistic that is too old says its age in a unit that fits: where seconds are asked for, "0 days"
-- says nothing.

CREATE MACRO octans_internal.span(seconds) AS
CASE
    WHEN seconds < 120 THEN greatest(seconds, 0)::BIGINT || ' s'
    WHEN seconds < 7200 THEN (seconds / 60)::BIGINT || ' min'
    WHEN seconds < 172800 THEN (seconds / 3600)::BIGINT || ' h'
    ELSE (seconds / 86400)::BIGINT || ' days' END;

-- The newest of each key, with what executions added to it since.
CREATE OR REPLACE VIEW octans.statistics AS
WITH newest AS (
    FROM octans_internal.judged
    QUALIFY row_number() OVER (
        PARTITION BY subject, metric, statistic, variant, coalesce(knobs, ''), device, batch,
            given, coalesce(assignment, ''), deployment
        ORDER BY is_current DESC, measured_at DESC, id DESC
    ) = 1
),
fed AS (
    SELECT f.* FROM octans_internal.feedback AS f
    WHERE f.filter = '' AND (
        f.environment = 0 OR EXISTS (
            SELECT 1 FROM octans_internal.present AS p WHERE p.environment = f.environment
        )
    )
),
pooled AS (
    SELECT n.* REPLACE (
        coalesce(f.value, n.value) AS value,
        CASE WHEN f.base IS NULL THEN n.ci_low ELSE f.ci_low END AS ci_low,
        CASE WHEN f.base IS NULL THEN n.ci_high ELSE f.ci_high END AS ci_high,
        coalesce(f.n, n.n) AS n,
        coalesce(f.n_failed, n.n_failed, 0) AS n_failed,
        coalesce(f.measured_at, n.measured_at) AS measured_at,
        CASE WHEN NOT n.is_current THEN 'of an earlier definition, not used'
            WHEN f.instead THEN NULL
            WHEN n.reason IS NOT NULL THEN n.reason
            WHEN epoch(now()::TIMESTAMP - n.measured_at)
                > coalesce(getvariable('octans_max_age')::DOUBLE, 2592000)
            THEN 'measured ' || octans_internal.span(epoch(now()::TIMESTAMP - n.measured_at))
                || ' ago' END AS reason
    )
    FROM newest AS n LEFT JOIN fed AS f ON f.base = n.id
)
SELECT subject, metric, statistic, variant, coalesce(knobs, '') AS knobs, device, batch, given,
    coalesce(assignment, '') AS assignment, value, ci_low, ci_high, n, n_failed, source,
    measured_at, CASE WHEN reason IS NULL THEN 'fresh' ELSE 'stale' END AS state, reason, run,
    deployment
FROM pooled
UNION ALL
SELECT body ->> '$.model', NULL, NULL, name, '', NULL, NULL, NULL, '', NULL, NULL, NULL, 0, 0,
    NULL, NULL, 'missing', NULL, NULL, NULL
FROM octans_internal.current AS c
WHERE kind = 'variant' AND NOT EXISTS (
    SELECT 1 FROM octans_internal.judged AS j WHERE j.is_current AND lower(j.variant) = c.key
);
