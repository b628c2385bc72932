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
