-- Variants made from others: what was built, and the rows that entered it.

-- Rows of a subject's samples that a transform learnt from: they measure nothing any more. `row` is
-- the hash of a row's inputs, `cluster` of its cluster ('' where rows are independent).
CREATE TABLE octans_internal.building_rows (
    subject VARCHAR NOT NULL,
    artefact VARCHAR NOT NULL,
    "row" VARCHAR NOT NULL,
    cluster VARCHAR NOT NULL
);
