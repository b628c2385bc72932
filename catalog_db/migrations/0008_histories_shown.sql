-- Histories know the ANALYZE that they come from, and so what its variants were made of.

ALTER TABLE octans_internal.histories ADD COLUMN run BIGINT;

UPDATE octans_internal.histories AS h SET run = (
    SELECT max(r.id) FROM octans_internal.runs AS r
    WHERE r.kind = 'analyze' AND r.started_at <= h.recorded_at
        AND (r.finished_at IS NULL OR r.finished_at >= h.recorded_at)
);

-- What people want to know of a history without its body: SHOW HISTORIES. NULL: kept by an earlier
-- version. `profiled` are the variants that it has seen; `best` is the plan that a query got when it
-- was kept, as advice, with the planner's numbers of then.

ALTER TABLE octans_internal.histories ADD COLUMN subject VARCHAR;
ALTER TABLE octans_internal.histories ADD COLUMN slo VARCHAR;
ALTER TABLE octans_internal.histories ADD COLUMN rows BIGINT;
ALTER TABLE octans_internal.histories
    ADD COLUMN profiled STRUCT(variant VARCHAR, version INTEGER)[];
ALTER TABLE octans_internal.histories ADD COLUMN best VARCHAR;
ALTER TABLE octans_internal.histories
    ADD COLUMN accuracy STRUCT(value DOUBLE, low DOUBLE, high DOUBLE, n BIGINT);
ALTER TABLE octans_internal.histories
    ADD COLUMN cost STRUCT(value DOUBLE, low DOUBLE, high DOUBLE, n BIGINT);
