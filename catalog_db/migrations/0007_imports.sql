-- Variants that never answer, in SHOW VARIANTS too.

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
