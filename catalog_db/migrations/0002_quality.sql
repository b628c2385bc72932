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
