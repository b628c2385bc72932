-- The catalog's first schema. `octans_internal` is ours; `octans` is what users read, and the one
-- table they may append to, `octans.observations`.
--
-- Times are UTC in TIMESTAMP columns (TIMESTAMPTZ needs pytz in Python). Definitions and
-- observations draw from one sequence, so "measured after this definition" is a comparison of two
-- numbers and does not trust a clock.

CREATE SCHEMA octans_internal;
CREATE SCHEMA octans;

CREATE TABLE octans_internal.migrations (
    number INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL
);

CREATE SEQUENCE octans_internal.tick;
CREATE SEQUENCE octans_internal.run_id;
CREATE SEQUENCE octans_internal.plan_id;
CREATE SEQUENCE octans_internal.sample_id;

-- Append-only. The newest row of (kind, lower(name)) counts; body NULL: dropped. An observation
-- without an explicit version belongs to this definition when its id is greater than `since`.
CREATE TABLE octans_internal.definitions (
    tick BIGINT NOT NULL DEFAULT nextval('octans_internal.tick'),
    kind VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    since BIGINT NOT NULL,
    body JSON,
    defined_at TIMESTAMP NOT NULL
);

-- Append-only. The documented INSERT names subject to n_failed; the rest has defaults. A NULL
-- version is the one that was current when the row was appended.
CREATE TABLE octans.observations (
    id BIGINT NOT NULL DEFAULT nextval('octans_internal.tick'),
    subject VARCHAR NOT NULL,
    variant VARCHAR,
    knobs VARCHAR DEFAULT '',
    device VARCHAR,
    batch INTEGER CHECK (batch >= 1),
    metric VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL DEFAULT 'mean',
    value DOUBLE NOT NULL CHECK (isfinite(value)),
    ci_low DOUBLE,
    ci_high DOUBLE,
    n BIGINT NOT NULL DEFAULT 1 CHECK (n >= 0),
    n_failed BIGINT DEFAULT 0 CHECK (n_failed >= 0),
    given VARCHAR,
    assignment VARCHAR DEFAULT '',
    source VARCHAR NOT NULL DEFAULT 'measured'
        CHECK (source IN ('measured', 'modelled', 'prior')),
    subject_version INTEGER,
    variant_version INTEGER,
    run BIGINT,
    measured_at TIMESTAMP NOT NULL DEFAULT make_timestamp(epoch_us(now())),
    CHECK (value >= 0),
    CHECK (
        value <= 1 OR metric NOT IN ('quality', 'failure', 'accuracy', 'distinct', 'length')
    ),
    -- Bounds computed in another order may be a few bits off.
    CHECK (ci_low <= value + 1e-9 * abs(value)),
    CHECK (ci_high >= value - 1e-9 * abs(value))
);

CREATE TABLE octans_internal.runs (
    id BIGINT NOT NULL DEFAULT nextval('octans_internal.run_id'),
    kind VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    status VARCHAR NOT NULL DEFAULT 'running',
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    rows BIGINT,
    failed BIGINT,
    usd DOUBLE,
    error VARCHAR,
    details JSON
);

CREATE TABLE octans_internal.plans (
    id BIGINT NOT NULL DEFAULT nextval('octans_internal.plan_id'),
    fingerprint VARCHAR NOT NULL,
    subjects VARCHAR[] NOT NULL,
    query VARCHAR NOT NULL,
    advice VARCHAR NOT NULL,
    estimates JSON,
    reason VARCHAR NOT NULL,
    chosen_at TIMESTAMP NOT NULL
);

CREATE TABLE octans_internal.plan_results (
    plan BIGINT NOT NULL,
    run BIGINT,
    measured JSON NOT NULL,
    measured_at TIMESTAMP NOT NULL
);

CREATE TABLE octans_internal.proofs (
    promise VARCHAR NOT NULL,
    plan VARCHAR NOT NULL,
    i INTEGER NOT NULL,
    level DOUBLE NOT NULL,
    n BIGINT NOT NULL,
    "right" DOUBLE NOT NULL,
    bound DOUBLE NOT NULL,
    accepted BOOLEAN NOT NULL,
    threshold DOUBLE NOT NULL,
    method VARCHAR NOT NULL,
    proved_at TIMESTAMP NOT NULL
);

-- One row for each kept sample; its rows stand in octans_internal.<relation>.
CREATE TABLE octans_internal.samples (
    subject VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    run BIGINT NOT NULL,
    relation VARCHAR NOT NULL,
    saved_at TIMESTAMP NOT NULL
);

-- A JSON scalar as a SQL literal.
CREATE MACRO octans_internal.literal(j) AS
    CASE json_type(j)
        WHEN 'VARCHAR' THEN '''' || replace(j ->> '$', '''', '''''') || ''''
        WHEN 'NULL' THEN 'NULL'
        WHEN 'OBJECT' THEN j ->> '$.float'
        ELSE upper(j::VARCHAR)
    END;

CREATE MACRO octans_internal.literals(j) AS
    array_to_string(
        list_transform(json_extract(j, '$[*]'), lambda v: octans_internal.literal(v)), ', '
    );

-- `glyph FLOAT[64], n INTEGER` of a schema.
CREATE MACRO octans_internal.signature(j) AS
    array_to_string(
        list_transform(
            json_extract(j, '$[*]'), lambda f: (f ->> '$.name') || ' ' || (f ->> '$.type')
        ), ', '
    );

-- `name := value, …` of options.
CREATE MACRO octans_internal.options(j) AS
    array_to_string(
        list_transform(
            json_extract(j, '$[*]'),
            lambda o: (o ->> '$[0]') || ' := ' || octans_internal.literal(json_extract(o, '$[1]'))
        ), ', '
    );

-- `name(output, args…)` of a metric or a derivation.
CREATE MACRO octans_internal.call(name, first, args) AS
    name || '(' || array_to_string(
        list_filter([first, nullif(octans_internal.literals(args), '')],
            lambda part: part IS NOT NULL), ', '
    ) || ')';

CREATE VIEW octans_internal.current AS
SELECT tick, kind, name, lower(name) AS key, version, since, body, defined_at
FROM (
    FROM octans_internal.definitions
    QUALIFY row_number() OVER (PARTITION BY kind, lower(name) ORDER BY tick DESC) = 1
)
WHERE body IS NOT NULL;

CREATE VIEW octans.models AS
SELECT name,
    octans_internal.signature(body -> '$.inputs') AS inputs,
    octans_internal.signature(body -> '$.outputs') AS outputs,
    octans_internal.call(
        body ->> '$.quality.name', body ->> '$.quality.output', body -> '$.quality.args'
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

-- What is known about an observation now: does it still describe what is declared?
CREATE VIEW octans_internal.judged AS
SELECT o.*, (
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
    AND (o.device IS NULL OR o.id > d.since)
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
) IS TRUE AS is_current
FROM octans.observations AS o
LEFT JOIN octans_internal.current AS s
    ON s.kind IN ('model', 'pipeline')
    AND s.key = lower(split_part(o.subject, '.', 1))
LEFT JOIN octans_internal.current AS v ON v.kind = 'variant' AND v.key = lower(o.variant)
LEFT JOIN octans_internal.current AS d ON d.kind = 'device' AND d.key = lower(o.device);

CREATE VIEW octans.statistics AS
SELECT subject, metric, statistic, variant, coalesce(knobs, '') AS knobs, device, batch, given,
    coalesce(assignment, '') AS assignment, value, ci_low, ci_high, n,
    coalesce(n_failed, 0) AS n_failed, source, measured_at,
    CASE WHEN is_current THEN 'fresh' ELSE 'stale' END AS state, run
FROM (
    FROM octans_internal.judged
    QUALIFY row_number() OVER (
        PARTITION BY subject, metric, statistic, variant, coalesce(knobs, ''), device, batch,
            given, coalesce(assignment, '')
        ORDER BY is_current DESC, measured_at DESC, id DESC
    ) = 1
)
UNION ALL
SELECT body ->> '$.model', NULL, NULL, name, '', NULL, NULL, NULL, '', NULL, NULL, NULL, 0, 0,
    NULL, NULL, 'missing', NULL
FROM octans_internal.current AS c
WHERE kind = 'variant' AND NOT EXISTS (
    SELECT 1 FROM octans_internal.judged AS j WHERE j.is_current AND lower(j.variant) = c.key
);

CREATE VIEW octans.variants AS
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
    CASE WHEN EXISTS (
        SELECT 1 FROM octans_internal.judged AS j WHERE j.is_current AND lower(j.variant) = c.key
    ) THEN 'measured' ELSE 'not measured' END AS state
FROM octans_internal.current AS c WHERE kind = 'variant'
ORDER BY key;

CREATE VIEW octans.devices AS
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

CREATE VIEW octans.links AS
SELECT body ->> '$.source' AS source, body ->> '$.target' AS target,
    (body ->> '$.bytes_per_second')::DOUBLE AS bytes_per_second,
    (body ->> '$.latency_seconds')::DOUBLE AS latency_seconds, version, defined_at
FROM octans_internal.current WHERE kind = 'link'
ORDER BY key;

CREATE VIEW octans.pipelines AS
SELECT name,
    octans_internal.signature(body -> '$.inputs') AS inputs,
    octans_internal.signature(body -> '$.outputs') AS outputs,
    octans_internal.call(
        body ->> '$.quality.name', body ->> '$.quality.output', body -> '$.quality.args'
    ) AS quality,
    version, defined_at, body ->> '$.text' AS definition
FROM octans_internal.current WHERE kind = 'pipeline'
ORDER BY key;

CREATE VIEW octans.slos AS
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

CREATE VIEW octans.runs AS
SELECT id, kind, status, started_at, finished_at - started_at AS took, rows, failed, usd, error,
    text, details
FROM octans_internal.runs ORDER BY id;

CREATE VIEW octans.plans AS
SELECT id, subjects, fingerprint, reason, chosen_at, advice, query, estimates,
    (
        SELECT arg_max(r.measured, r.measured_at)
        FROM octans_internal.plan_results AS r WHERE r.plan = p.id
    ) AS measured
FROM octans_internal.plans AS p ORDER BY id;

CREATE VIEW octans.proofs AS FROM octans_internal.proofs;

CREATE VIEW octans.jobs AS
SELECT NULL::BIGINT AS id, NULL::VARCHAR AS kind, NULL::VARCHAR AS status,
    NULL::TIMESTAMP AS started_at, NULL::TIMESTAMP AS finished_at
WHERE false;

CREATE VIEW octans.deployments AS
SELECT NULL::VARCHAR AS name, NULL::VARCHAR AS pipeline, NULL::VARCHAR AS slo,
    NULL::DOUBLE AS rate_per_second, NULL::VARCHAR AS tier
WHERE false;
