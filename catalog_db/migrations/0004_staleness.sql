-- Statistics that know when they no longer hold: what each run's variants were made of, marks left
-- by drift, new rows and executions that contradict them, what executions add to a measurement,
-- and a small audit sample of the rows that executions saw.

CREATE SEQUENCE octans_internal.environment_id;

-- What a variant was made of, once for each different one. `stamps` only spare reading the files.
CREATE TABLE octans_internal.environments (
    id BIGINT NOT NULL DEFAULT nextval('octans_internal.environment_id'),
    variant VARCHAR NOT NULL,
    artefact VARCHAR NOT NULL,
    libraries JSON NOT NULL,
    stamps JSON NOT NULL,
    noticed_at TIMESTAMP NOT NULL
);

CREATE TABLE octans_internal.run_environments (run BIGINT NOT NULL, environment BIGINT NOT NULL);

-- What each variant is made of now, as far as somebody has looked; `reason` tells `environment`
-- apart from each other one of the variant.
CREATE TABLE octans_internal.present (variant VARCHAR NOT NULL, environment BIGINT NOT NULL);
CREATE TABLE octans_internal.changes (
    past BIGINT NOT NULL, present BIGINT NOT NULL, reason VARCHAR NOT NULL
);

-- What was measured of the subject (and its steps) up to the observation `upto` is stale. NULL: of
-- every variant, device, metric.
CREATE TABLE octans_internal.marks (
    subject VARCHAR NOT NULL,
    variant VARCHAR,
    device VARCHAR,
    metric VARCHAR,
    reason VARCHAR NOT NULL,
    upto BIGINT NOT NULL,
    marked_at TIMESTAMP NOT NULL
);

-- What executions observed, append-only and as it was seen. `filter` is what rows had passed before,
-- '' nothing: the number holds for that context alone. A table of its own, so that no plan reads
-- through it and `octans.observations` is not altered (DuckDB 2.0 cannot replay the alteration of a
-- table whose checks call functions from its log).
CREATE TABLE octans.executions (
    run BIGINT NOT NULL,
    subject VARCHAR NOT NULL,
    variant VARCHAR,
    knobs VARCHAR NOT NULL,
    device VARCHAR,
    batch INTEGER,
    metric VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL,
    value DOUBLE NOT NULL,
    ci_low DOUBLE,
    ci_high DOUBLE,
    n BIGINT NOT NULL,
    n_failed BIGINT NOT NULL,
    filter VARCHAR NOT NULL,
    subject_version BIGINT,
    variant_version BIGINT,
    deployment VARCHAR,
    measured_at TIMESTAMP NOT NULL
);

-- A measurement (`base`, an observation's id) together with the executions since it, pooled: what
-- counts in its place while the variant is made of `environment` (0: of nothing). `instead`: the
-- measurement was made of something else, these are the executions alone. `ratios` are the newest
-- executions' numbers over the measurement's.
CREATE TABLE octans_internal.feedback (
    base BIGINT NOT NULL,
    filter VARCHAR NOT NULL,
    environment BIGINT NOT NULL,
    instead BOOLEAN NOT NULL,
    value DOUBLE NOT NULL,
    ci_low DOUBLE NOT NULL,
    ci_high DOUBLE NOT NULL,
    n BIGINT NOT NULL,
    n_failed BIGINT NOT NULL,
    runs BIGINT NOT NULL,
    ratios DOUBLE[] NOT NULL,
    measured_at TIMESTAMP NOT NULL
);

-- Rows that executions saw, before any model did: a subject's inputs, in octans_internal.<relation>
-- with `__run`, a bounded number of the newest. `looks` counts the comparisons with ANALYZE's rows.
CREATE TABLE octans_internal.audits (
    subject VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    analyzed BIGINT NOT NULL,
    relation VARCHAR NOT NULL,
    looks BIGINT NOT NULL
);

-- Rows of a source that were not among those ANALYZE drew from, as far as a sample of them tells;
-- a source (by its text) that is read again counts once, with its most.
CREATE TABLE octans_internal.seen (
    subject VARCHAR NOT NULL,
    analyzed BIGINT NOT NULL,
    source VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    new_rows DOUBLE NOT NULL
);

-- What an observation is about, and whether it still holds. `is_current`: of what is declared now;
-- `reason`: why it is stale all the same.
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
) IS TRUE AS is_current,
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
LEFT JOIN octans_internal.current AS d ON d.kind = 'device' AND d.key = lower(o.device);

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
            THEN 'measured ' || (epoch(now()::TIMESTAMP - n.measured_at) / 86400)::BIGINT
                || ' days ago' END AS reason
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
