-- Statistics kept per deployment, and statistics created on two calls together.

-- The table is made anew: DuckDB cannot replay an ALTER of a table with CHECKs from its log, so a
-- process killed after one would leave a file that does not open.
CREATE TABLE octans_internal.kept AS FROM octans.observations;
DROP TABLE octans.observations;
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
    -- Whose rows they were; NULL: the pipeline's own.
    deployment VARCHAR,
    measured_at TIMESTAMP NOT NULL DEFAULT make_timestamp(epoch_us(now())),
    CHECK (value >= 0),
    CHECK (
        value <= 1 OR metric NOT IN (
            'quality', 'row_quality', 'joint_errors', 'failure', 'accuracy', 'distinct', 'length'
        )
    ),
    -- Bounds computed in another order may be a few bits off.
    CHECK (ci_low <= value + 1e-9 * abs(value)),
    CHECK (ci_high >= value - 1e-9 * abs(value))
);
INSERT INTO octans.observations BY NAME FROM octans_internal.kept;
DROP TABLE octans_internal.kept;

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
