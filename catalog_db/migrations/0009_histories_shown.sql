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

-- `state`: fresh, all of it counts; stale, some of its variants are others now and the rest counts;
-- unused, it can warm no search.
CREATE VIEW octans.histories AS
WITH seen AS (
    SELECT id, run, unnest(profiled) AS one FROM octans_internal.histories
),
told AS (
    SELECT s.id,
        CASE
            WHEN c.key IS NULL THEN 'there is no variant ' || s.one.variant
            WHEN c.version <> s.one.version THEN s.one.variant || ' was defined anew'
            WHEN o.variant IS NOT NULL THEN s.one.variant || ': its files changed'
        END AS reason
    FROM seen AS s
    LEFT JOIN octans_internal.current AS c
        ON c.kind = 'variant' AND c.key = lower(s.one.variant)
    LEFT JOIN octans_internal.other_files AS o
        ON o.run = s.run AND lower(o.variant) = lower(s.one.variant)
),
judged AS (
    SELECT id, count(*) - count(reason) AS counting,
        list(reason ORDER BY reason) FILTER (reason IS NOT NULL) AS reasons
    FROM told GROUP BY id
)
SELECT h.id, h.subject, h.slo, h.recorded_at AS kept_at, h.evaluations AS plans, h.rows, h.best,
    h.accuracy.value AS accuracy, h.accuracy.low AS accuracy_low,
    h.accuracy.high AS accuracy_high, h.accuracy.n AS accuracy_n,
    h.cost.value AS cost, h.cost.low AS cost_low, h.cost.high AS cost_high, h.cost.n AS cost_n,
    CASE
        WHEN h.evaluations < 2 OR j.counting = 0 THEN 'unused'
        WHEN j.reasons IS NOT NULL THEN 'stale'
        WHEN j.id IS NOT NULL THEN 'fresh'
    END AS state,
    CASE
        WHEN h.evaluations < 2 THEN 'it saw fewer than two plans'
        WHEN h.profiled IS NULL THEN 'kept by an earlier version: nothing tells'
        WHEN len(j.reasons) > 3
        THEN array_to_string(j.reasons[:3], '; ') || ' and ' || len(j.reasons) - 3 || ' more'
        ELSE array_to_string(j.reasons, '; ')
    END AS reason,
    h.run
FROM octans_internal.histories AS h LEFT JOIN judged AS j USING (id)
ORDER BY h.id;
