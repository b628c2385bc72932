-- Outputs of operator prefixes kept between statements, a block of rows each. What is asked for and
-- evicted by stands apart from the outputs, so that neither reads them.
CREATE SEQUENCE octans_internal.prefix_id;

CREATE TABLE octans_internal.prefixes (
    id BIGINT NOT NULL,
    call VARCHAR NOT NULL,       -- identity of what is called: see executor/identity.py
    step VARCHAR NOT NULL,
    variant VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    knobs VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    seconds DOUBLE NOT NULL,     -- model time it took to compute them
    digest BLOB NOT NULL,
    keys BLOB NOT NULL,          -- identity of each row, 16 bytes
    made_at TIMESTAMP NOT NULL,
    used_at TIMESTAMP NOT NULL
);

CREATE TABLE octans_internal.prefix_outputs (
    id BIGINT PRIMARY KEY,       -- the index finds a block without a scan of the others
    outputs BLOB NOT NULL        -- an Arrow IPC stream
);

-- What an ANALYZE has measured so far, in order; gone once it ends. One that died continues by it.
CREATE TABLE octans_internal.checkpoints (
    id BIGINT NOT NULL,
    run BIGINT NOT NULL,
    subject VARCHAR NOT NULL,
    identity VARCHAR NOT NULL,   -- of the ANALYZE: statement, rows, choices, settings
    key VARCHAR NOT NULL,
    body VARCHAR NOT NULL,
    made_at TIMESTAMP NOT NULL
);
