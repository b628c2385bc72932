-- Imported observations that no plan looks up, and variants that never answer.

-- Why an observation is not looked up although what it names is declared: a setting of knobs that
-- its variant does not declare, a metric that no plan is made with.
CREATE TABLE octans_internal.unused (observation BIGINT NOT NULL, reason VARCHAR NOT NULL);

-- What an observation is about, and whether it still holds. `is_current`: of what is declared now
-- and looked up; `reason`: why it is stale all the same; `unused`: why no plan looks it up.
CREATE OR REPLACE VIEW octans_internal.judged AS
WITH named AS (
    SELECT o.*,
        CASE WHEN o.variant IS NOT NULL THEN [lower(o.variant)]
            ELSE list_transform(
                regexp_extract_all(
                    ';' || regexp_replace(
                        coalesce(o.assignment, ''), '''(?:[^'']|'''')*''', '', 'g'
                    ),
                    ';[^=;]*=([^(;]+)\(', 1
                ),
                lambda name: lower(trim(name))
            ) END AS variants
    FROM octans.observations AS o
),
changed AS (
    SELECT r.run, lower(e.variant) AS variant, e.variant || ': ' || c.reason AS reason
    FROM octans_internal.run_environments AS r
    JOIN octans_internal.environments AS e ON e.id = r.environment
    JOIN octans_internal.present AS p ON lower(p.variant) = lower(e.variant)
    JOIN octans_internal.changes AS c ON c.past = e.id AND c.present = p.environment
)
SELECT o.* EXCLUDE (variants), (
    (
        starts_with(o.subject, 'filter:')
        OR CASE WHEN o.subject_version IS NULL THEN o.id > s.since
            ELSE o.subject_version = s.version END
    )
    AND (
        o.variant IS NULL
        OR CASE WHEN o.variant_version IS NULL THEN o.id > v.since
            ELSE o.variant_version = v.version END
    )
    AND (o.device IS NULL OR d.since IS NOT NULL)
    AND (
        coalesce(o.assignment, '') = ''
        OR NOT EXISTS (
            SELECT 1
            FROM (
                SELECT unnest(regexp_extract_all(
                    ';' || regexp_replace(o.assignment, '''(?:[^'']|'''')*''', '', 'g'),
                    ';[^=;]*=([^(;]+)\(', 1
                )) AS full_name
            ) AS part
            LEFT JOIN octans_internal.current AS c
                ON c.kind = 'variant' AND c.key = lower(trim(part.full_name))
            WHERE c.since IS NULL OR o.id <= c.since
        )
    )
) IS TRUE AND u.reason IS NULL AS is_current,
CASE
    WHEN s.key IS NULL AND NOT starts_with(o.subject, 'filter:')
    THEN 'there is no model or pipeline ' || split_part(o.subject, '.', 1)
    WHEN o.variant IS NOT NULL AND v.key IS NULL THEN 'there is no variant ' || o.variant
    WHEN o.device IS NOT NULL AND d.key IS NULL THEN 'there is no device ' || o.device
    ELSE u.reason
END AS unused,
coalesce(
    CASE WHEN o.id <= d.since THEN 'device ' || d.name || ' changed' END,
    (
        SELECT min(c.reason) FROM changed AS c
        WHERE c.run = o.run AND list_contains(o.variants, c.variant)
    ),
    (
        SELECT arg_max(m.reason, m.upto) FROM octans_internal.marks AS m
        WHERE o.id <= m.upto
            AND (
                lower(o.subject) = lower(m.subject)
                OR starts_with(lower(o.subject), lower(m.subject) || '.')
            )
            AND (m.variant IS NULL OR lower(m.variant) = lower(o.variant))
            AND (m.device IS NULL OR lower(m.device) = lower(o.device))
            AND (m.metric IS NULL OR m.metric = o.metric)
    )
) AS reason
FROM named AS o
LEFT JOIN octans_internal.current AS s
    ON s.kind IN ('model', 'pipeline')
    AND s.key = lower(split_part(o.subject, '.', 1))
LEFT JOIN octans_internal.current AS v ON v.kind = 'variant' AND v.key = lower(o.variant)
LEFT JOIN octans_internal.current AS d ON d.kind = 'device' AND d.key = lower(o.device)
LEFT JOIN octans_internal.unused AS u ON u.observation = o.id;

-- In the unit that shows two digits or more, as plans tell it.
CREATE MACRO octans_internal.span(seconds) AS CASE
    WHEN seconds < 120 THEN greatest(seconds, 0) || ' s'
    WHEN seconds < 7200 THEN seconds // 60 || ' min'
    WHEN seconds < 172800 THEN seconds // 3600 || ' h'
    ELSE seconds // 86400 || ' days' END;

-- The newest of each key, with what executions added to it since.
CREATE OR REPLACE VIEW octans.statistics AS
WITH newest AS (
    FROM octans_internal.judged
    QUALIFY row_number() OVER (
        PARTITION BY lower(subject), metric, statistic, lower(variant), coalesce(knobs, ''),
            lower(device), batch, given, coalesce(assignment, ''), deployment
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
        CASE WHEN n.unused IS NOT NULL THEN n.unused
            WHEN NOT n.is_current THEN 'of an earlier definition, not used'
            WHEN f.instead THEN NULL
            WHEN n.reason IS NOT NULL THEN n.reason
            WHEN epoch(now()::TIMESTAMP - n.measured_at)
                > coalesce(getvariable('octans_max_age')::DOUBLE, 2592000)
            THEN 'measured ' || octans_internal.span(
                epoch(now()::TIMESTAMP - n.measured_at)::BIGINT) || ' ago' END AS reason
    )
    FROM newest AS n LEFT JOIN fed AS f ON f.base = n.id
)
SELECT subject, metric, statistic, variant, coalesce(knobs, '') AS knobs, device, batch, given,
    coalesce(assignment, '') AS assignment, value, ci_low, ci_high, n, n_failed, source,
    measured_at,
    CASE WHEN unused IS NOT NULL THEN 'unused' WHEN reason IS NULL THEN 'fresh' ELSE 'stale' END
        AS state,
    reason, run, deployment
FROM pooled
UNION ALL
SELECT body ->> '$.model', NULL, NULL, name, '', NULL, NULL, NULL, '', NULL, NULL, NULL, 0, 0,
    NULL, NULL, 'missing', NULL, NULL, NULL
FROM octans_internal.current AS c
WHERE kind = 'variant' AND NOT EXISTS (
    SELECT 1 FROM octans_internal.judged AS j WHERE j.is_current AND lower(j.variant) = c.key
);

-- `fails`: it never answered.
CREATE OR REPLACE VIEW octans.variants AS
SELECT name AS variant, body ->> '$.model' AS model,
    CASE WHEN json_type(body -> '$.backend') = 'OBJECT' THEN octans_internal.call(
        body ->> '$.backend.kind', octans_internal.literal(body -> '$.backend.target'), '[]'
    ) END AS backend,
    nullif(octans_internal.options(body -> '$.backend.options'), '') AS options,
    array_to_string(
        list_transform(
            json_extract(body, '$.knobs[*]'),
            lambda k: (k ->> '$.name') || ' IN ('
                || octans_internal.literals(k -> '$.values') || ')'
        ), ', '
    ) AS knobs,
    (body ->> '$.base')::BOOLEAN AS base,
    (body ->> '$.volatile')::BOOLEAN AS volatile,
    body ->> '$.derivation.base' AS derived_from,
    octans_internal.call(
        body ->> '$.derivation.transform', NULL, body -> '$.derivation.args'
    ) AS derived_by,
    version, defined_at,
    CASE
        WHEN seen.metrics IS NULL THEN 'not measured'
        WHEN seen.fails AND NOT list_contains(seen.metrics, 'latency') THEN 'fails'
        ELSE 'measured'
    END AS state
FROM octans_internal.current AS c
LEFT JOIN (
    SELECT lower(variant) AS key, list(DISTINCT metric) AS metrics,
        bool_or(metric = 'failure' AND value = 1) AS fails
    FROM octans_internal.judged WHERE is_current GROUP BY ALL
) AS seen USING (key)
WHERE kind = 'variant'
ORDER BY key;
