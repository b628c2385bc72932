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
