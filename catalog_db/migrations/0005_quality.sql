-- Statistics kept per deployment, and statistics created on two calls together.

-- NULL: the pipeline's own, measured under no deployment.
ALTER TABLE octans.observations ADD COLUMN deployment VARCHAR;

CREATE OR REPLACE VIEW octans.statistics AS
SELECT subject, metric, statistic, variant, coalesce(knobs, '') AS knobs, device, batch, given,
    coalesce(assignment, '') AS assignment, value, ci_low, ci_high, n,
    coalesce(n_failed, 0) AS n_failed, source, measured_at,
    CASE WHEN is_current THEN 'fresh' ELSE 'stale' END AS state, run, deployment
FROM (
    FROM octans_internal.judged
    QUALIFY row_number() OVER (
        PARTITION BY subject, metric, statistic, variant, coalesce(knobs, ''), device, batch,
            given, coalesce(assignment, ''), deployment
        ORDER BY is_current DESC, measured_at DESC, id DESC
    ) = 1
)
UNION ALL
SELECT body ->> '$.model', NULL, NULL, name, '', NULL, NULL, NULL, '', NULL, NULL, NULL, 0, 0,
    NULL, NULL, 'missing', NULL, NULL
FROM octans_internal.current AS c
WHERE kind = 'variant' AND NOT EXISTS (
    SELECT 1 FROM octans_internal.judged AS j WHERE j.is_current AND lower(j.variant) = c.key
);

-- The QUALITY of a model or pipeline may be code of the user's: python('module:fn', output).
CREATE OR REPLACE VIEW octans.models AS
SELECT name,
    octans_internal.signature(body -> '$.inputs') AS inputs,
    octans_internal.signature(body -> '$.outputs') AS outputs,
    octans_internal.call(
        body ->> '$.quality.name',
        coalesce('''' || (body ->> '$.quality.target') || ''', ', '')
            || (body ->> '$.quality.output'),
        body -> '$.quality.args'
    ) AS quality,
    body ->> '$.confidence' AS confidence,
    body ->> '$.prompt' AS prompt,
    (
        SELECT count(*) FROM octans_internal.current AS v
        WHERE v.kind = 'variant' AND lower(v.body ->> '$.model') = m.key
    ) AS variants,
    version, defined_at
FROM octans_internal.current AS m WHERE kind = 'model'
ORDER BY key;

CREATE OR REPLACE VIEW octans.pipelines AS
SELECT name,
    octans_internal.signature(body -> '$.inputs') AS inputs,
    octans_internal.signature(body -> '$.outputs') AS outputs,
    octans_internal.call(
        body ->> '$.quality.name',
        coalesce('''' || (body ->> '$.quality.target') || ''', ', '')
            || (body ->> '$.quality.output'),
        body -> '$.quality.args'
    ) AS quality,
    version, defined_at, body ->> '$.text' AS definition
FROM octans_internal.current WHERE kind = 'pipeline'
ORDER BY key;

CREATE VIEW octans.extended_statistics AS
SELECT name, body ->> '$.kind' AS kind, body ->> '$.first' AS first, body ->> '$.second' AS second,
    version, defined_at
FROM octans_internal.current WHERE kind = 'statistics'
ORDER BY key;
