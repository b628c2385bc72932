-- Views and macros as they are now: made anew behind every migration, so each is said once. One that
-- changes needs a migration, which may change nothing else.

-- A JSON scalar as a SQL literal.
CREATE OR REPLACE MACRO octans_internal.literal(j) AS
    CASE json_type(j)
        WHEN 'VARCHAR' THEN '''' || replace(j ->> '$', '''', '''''') || ''''
        WHEN 'NULL' THEN 'NULL'
        WHEN 'OBJECT' THEN j ->> '$.float'
        ELSE upper(j::VARCHAR)
    END;

CREATE OR REPLACE MACRO octans_internal.literals(j) AS
    array_to_string(
        list_transform(json_extract(j, '$[*]'), lambda v: octans_internal.literal(v)), ', '
    );

-- `glyph FLOAT[64], n INTEGER` of a schema.
CREATE OR REPLACE MACRO octans_internal.signature(j) AS
    array_to_string(
        list_transform(
            json_extract(j, '$[*]'), lambda f: (f ->> '$.name') || ' ' || (f ->> '$.type')
        ), ', '
    );

-- `name := value, …` of options.
CREATE OR REPLACE MACRO octans_internal.options(j) AS
    array_to_string(
        list_transform(
            json_extract(j, '$[*]'),
            lambda o: (o ->> '$[0]') || ' := ' || octans_internal.literal(json_extract(o, '$[1]'))
        ), ', '
    );

-- `name(output, args…)` of a metric or a derivation.
CREATE OR REPLACE MACRO octans_internal.call(name, first, args) AS
    name || '(' || concat_ws(', ', first, nullif(octans_internal.literals(args), '')) || ')';

-- In the unit that shows two digits or more, as plans tell it.
CREATE OR REPLACE MACRO octans_internal.span(seconds) AS CASE
    WHEN seconds < 120 THEN greatest(seconds, 0) || ' s'
    WHEN seconds < 7200 THEN seconds // 60 || ' min'
    WHEN seconds < 172800 THEN seconds // 3600 || ' h'
    ELSE seconds // 86400 || ' days' END;

CREATE OR REPLACE VIEW octans_internal.current AS
SELECT tick, kind, name, lower(name) AS key, version, since, body, defined_at
FROM (
    FROM octans_internal.definitions
    QUALIFY row_number() OVER (PARTITION BY kind, lower(name) ORDER BY tick DESC) = 1
)
WHERE body IS NOT NULL;

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

CREATE OR REPLACE VIEW octans.devices AS
SELECT name, body ->> '$.kind' AS kind, (body ->> '$.count')::BIGINT AS slots,
    (body ->> '$.threads')::BIGINT AS threads,
    (body ->> '$.memory_bytes')::BIGINT AS memory_bytes,
    (body ->> '$.usd_per_hour')::DOUBLE AS usd_per_hour,
    (body ->> '$.power_watts')::DOUBLE AS power_watts,
    body ->> '$.tier' AS tier,
    (body ->> '$.grid_g_co2_per_kwh')::DOUBLE AS grid_g_co2_per_kwh,
    version, defined_at
FROM octans_internal.current WHERE kind = 'device'
ORDER BY key;

CREATE OR REPLACE VIEW octans.links AS
SELECT body ->> '$.source' AS source, body ->> '$.target' AS target,
    (body ->> '$.bytes_per_second')::DOUBLE AS bytes_per_second,
    (body ->> '$.latency_seconds')::DOUBLE AS latency_seconds, version, defined_at
FROM octans_internal.current WHERE kind = 'link'
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

CREATE OR REPLACE VIEW octans.slos AS
SELECT name,
    array_to_string(
        list_transform(
            json_extract(body, '$.constraints[*]'),
            lambda c: CASE WHEN c ->> '$.metric' = 'custom'
                    THEN 'custom(' || octans_internal.literal(c -> '$.custom') || ')'
                    ELSE c ->> '$.metric' END
                || coalesce('(' || (c ->> '$.model') || ')', '')
                || ' ' || (c ->> '$.operator') || ' ' || octans_internal.literal(c -> '$.limit')
                || coalesce(' SOFT ' || (c ->> '$.soft'), '')
                || coalesce(' AT CONFIDENCE ' || (c ->> '$.confidence'), '')
                || CASE WHEN c ->> '$.per_token' = 'true' THEN ' PER TOKEN' ELSE '' END
        ), ', '
    ) AS constraints,
    CASE WHEN body ->> '$.objective.maximize' = 'true' THEN 'MAXIMIZE ' ELSE 'MINIMIZE ' END
        || (body ->> '$.objective.metric') AS objective,
    version, defined_at
FROM octans_internal.current WHERE kind = 'slo'
ORDER BY key;

CREATE OR REPLACE VIEW octans.runs AS
SELECT id, kind, status, started_at, finished_at - started_at AS took, rows, failed, usd, error,
    text, details
FROM octans_internal.runs ORDER BY id;

CREATE OR REPLACE VIEW octans.plans AS
SELECT id, subjects, fingerprint, reason, chosen_at, advice, query, estimates,
    (
        SELECT arg_max(r.measured, r.measured_at)
        FROM octans_internal.plan_results AS r WHERE r.plan = p.id
    ) AS measured
FROM octans_internal.plans AS p ORDER BY id;

CREATE OR REPLACE VIEW octans.proofs AS FROM octans_internal.proofs;

CREATE OR REPLACE VIEW octans.jobs AS
SELECT NULL::BIGINT AS id, NULL::VARCHAR AS kind, NULL::VARCHAR AS status,
    NULL::TIMESTAMP AS started_at, NULL::TIMESTAMP AS finished_at
WHERE false;

CREATE OR REPLACE VIEW octans.deployments AS
SELECT NULL::VARCHAR AS name, NULL::VARCHAR AS pipeline, NULL::VARCHAR AS slo,
    NULL::DOUBLE AS rate_per_second, NULL::VARCHAR AS tier
WHERE false;

CREATE OR REPLACE VIEW octans.extended_statistics AS
SELECT name, body ->> '$.kind' AS kind, body ->> '$.first' AS first, body ->> '$.second' AS second,
    version, defined_at
FROM octans_internal.current WHERE kind = 'statistics'
ORDER BY key;

CREATE OR REPLACE VIEW octans.prefixes AS
SELECT step, variant, version, knobs, sum(rows)::BIGINT AS rows, sum(bytes)::BIGINT AS bytes,
    sum(seconds) AS seconds, max(used_at) AS used_at
FROM octans_internal.prefixes
GROUP BY call, step, variant, version, knobs
ORDER BY step, variant, version, knobs;

CREATE OR REPLACE VIEW octans.artefacts AS
SELECT name AS variant, body ->> '$.derivation.build.file' AS file,
    (body ->> '$.derivation.build.size_bytes')::BIGINT AS bytes,
    body ->> '$.derivation.base' AS base,
    (body ->> '$.derivation.build.base_version')::BIGINT AS base_version,
    body ->> '$.derivation.build.base_artefact' AS base_artefact,
    (body ->> '$.derivation.build.base_bytes')::BIGINT AS base_bytes,
    upper(body ->> '$.derivation.transform')
        || '(' || octans_internal.literals(body -> '$.derivation.args') || ')' AS transform,
    (body ->> '$.derivation.build.rows')::BIGINT AS learnt_from_rows,
    octans_internal.options(body -> '$.derivation.build.libraries') AS libraries,
    (body ->> '$.derivation.build.effect.size')::DOUBLE AS prior_size,
    (body -> '$.derivation.build.effect.quality')::DOUBLE[] AS prior_quality,
    (body -> '$.derivation.build.effect.latency')::DOUBLE[] AS prior_latency,
    body ->> '$.derivation.build.effect.source' AS prior_source,
    defined_at AS built_at
FROM octans_internal.current
WHERE kind = 'variant' AND json_type(body -> '$.derivation.build') = 'OBJECT'
ORDER BY key;

-- SHOW VARIANTS: every variant below what it is derived from. As far as anybody has looked at the
-- files, `again` says that it does not follow from its base any more, which what was derived from it
-- does not either, and `lost` that its own artefact is not what was built. `deriving.waiting` says
-- the same.
CREATE OR REPLACE VIEW octans_internal.lineage AS
WITH RECURSIVE made AS (
    SELECT lower(p.variant) AS variant, e.artefact
    FROM octans_internal.present AS p
    JOIN octans_internal.environments AS e ON e.id = p.environment
),
listed AS (
    SELECT v.*, a.bytes, a.base_version, a.transform,
        CASE
            WHEN a.base_version <> parent.version OR (
                source.artefact <> a.base_artefact AND source.artefact <> 'unreadable'
            ) THEN 'its base changed'
        END AS changed,
        CASE
            WHEN a.file IS NULL THEN NULL
            WHEN own.artefact = 'unreadable' THEN 'its artefact is gone'
            WHEN own.artefact <> split_part(a.file, '.', 1) THEN 'its artefact was changed'
        END AS lost,
        row_number() OVER (
            PARTITION BY v.model, lower(v.derived_from) ORDER BY lower(v.variant)
        ) AS place,
        count(*) OVER (PARTITION BY v.model, lower(v.derived_from)) AS siblings,
        EXISTS (
            SELECT 1 FROM octans_internal.judged AS j
            WHERE j.is_current AND lower(j.variant) = lower(v.variant) AND j.metric = 'latency'
        ) AS timed,
        m.body ->> '$.quality.name' IS NULL OR EXISTS (
            SELECT 1 FROM octans_internal.judged AS j
            WHERE j.is_current AND lower(j.variant) = lower(v.variant) AND j.metric = 'quality'
        ) AS scored
    FROM octans.variants AS v
    LEFT JOIN octans.artefacts AS a ON a.variant = v.variant
    LEFT JOIN octans_internal.current AS parent
        ON parent.kind = 'variant' AND parent.key = lower(v.derived_from)
    LEFT JOIN octans_internal.current AS m ON m.kind = 'model' AND m.name = v.model
    LEFT JOIN made AS own ON own.variant = lower(v.variant)
    LEFT JOIN made AS source ON source.variant = lower(v.derived_from)
),
tree AS (
    SELECT *, split_part(variant, '.', 2) AS drawn, '' AS indent, [lower(variant)] AS path,
        changed AS again
    FROM listed WHERE derived_from IS NULL
    UNION ALL
    SELECT c.*,
        p.indent || CASE WHEN c.place = c.siblings THEN '└─ ' ELSE '├─ ' END
            || coalesce(c.transform, c.derived_by),
        p.indent || CASE WHEN c.place = c.siblings THEN '   ' ELSE '│  ' END,
        list_append(p.path, lower(c.variant)),
        coalesce(c.changed, CASE WHEN p.again IS NOT NULL THEN 'its base is to build again' END)
    FROM listed AS c JOIN tree AS p ON lower(c.derived_from) = lower(p.variant)
)
SELECT variant, drawn AS lineage, bytes,
    CASE
        WHEN derived_from IS NOT NULL AND base_version IS NULL THEN 'not built'
        WHEN again IS NOT NULL THEN 'to build again: ' || again
        WHEN lost IS NOT NULL THEN 'to build again: ' || lost
        WHEN timed AND scored THEN 'eligible'
        ELSE state
    END AS state,
    backend, options, knobs, base, version, model, path
FROM tree;

-- Variants that had other files in a run than they have now, as far as somebody has looked.
CREATE OR REPLACE VIEW octans_internal.other_files AS
SELECT DISTINCT r.run, past.variant
FROM octans_internal.run_environments AS r
JOIN octans_internal.environments AS past ON past.id = r.environment
JOIN octans_internal.present AS p ON lower(p.variant) = lower(past.variant)
JOIN octans_internal.environments AS now ON now.id = p.environment
WHERE past.artefact <> now.artefact;

-- `state`: fresh, all of it counts; stale, some of its variants are others now and the rest counts;
-- unused, it can warm no search.
CREATE OR REPLACE VIEW octans.histories AS
WITH seen AS (
    SELECT id, run, unnest(profiled) AS one FROM octans_internal.histories
),
told AS (
    SELECT s.id,
        CASE
            WHEN c.key IS NULL THEN 'there is no variant ' || s.one.variant
            WHEN c.version <> s.one.version THEN s.one.variant || ' was defined anew'
            WHEN o.variant IS NOT NULL THEN s.one.variant || ': its files changed'
        END AS reason
    FROM seen AS s
    LEFT JOIN octans_internal.current AS c
        ON c.kind = 'variant' AND c.key = lower(s.one.variant)
    LEFT JOIN octans_internal.other_files AS o
        ON o.run = s.run AND lower(o.variant) = lower(s.one.variant)
),
judged AS (
    SELECT id, count(*) - count(reason) AS counting,
        list(reason ORDER BY reason) FILTER (reason IS NOT NULL) AS reasons
    FROM told GROUP BY id
)
SELECT h.id, h.subject, h.slo, h.recorded_at AS kept_at, h.evaluations AS plans, h.rows, h.best,
    h.accuracy.value AS accuracy, h.accuracy.low AS accuracy_low,
    h.accuracy.high AS accuracy_high, h.accuracy.n AS accuracy_n,
    h.cost.value AS cost, h.cost.low AS cost_low, h.cost.high AS cost_high, h.cost.n AS cost_n,
    CASE
        WHEN h.evaluations < 2 OR j.counting = 0 THEN 'unused'
        WHEN j.reasons IS NOT NULL THEN 'stale'
        WHEN j.id IS NOT NULL THEN 'fresh'
    END AS state,
    CASE
        WHEN h.evaluations < 2 THEN 'it saw fewer than two plans'
        WHEN h.profiled IS NULL THEN 'kept by an earlier version: nothing tells'
        WHEN len(j.reasons) > 3
        THEN array_to_string(j.reasons[:3], '; ') || ' and ' || len(j.reasons) - 3 || ' more'
        ELSE array_to_string(j.reasons, '; ')
    END AS reason,
    h.run
FROM octans_internal.histories AS h LEFT JOIN judged AS j USING (id)
ORDER BY h.id;
