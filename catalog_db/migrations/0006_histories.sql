-- What earlier searches saw: found by the columns, read by the body.

CREATE TABLE octans_internal.histories (
    id BIGINT PRIMARY KEY,
    recorded_at TIMESTAMP NOT NULL,
    models VARCHAR[] NOT NULL,
    variants VARCHAR[] NOT NULL,
    devices VARCHAR[] NOT NULL,
    evaluations INTEGER NOT NULL,
    -- JSON, deflated: see catalog_db/histories.py
    body BLOB NOT NULL
);
