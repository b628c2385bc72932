-- Histories know the ANALYZE that they come from, and so what its variants were made of.

ALTER TABLE octans_internal.histories ADD COLUMN run BIGINT;

UPDATE octans_internal.histories AS h SET run = (
    SELECT max(r.id) FROM octans_internal.runs AS r
    WHERE r.kind = 'analyze' AND r.started_at <= h.recorded_at
        AND (r.finished_at IS NULL OR r.finished_at >= h.recorded_at)
);

-- Variants that had other files in a run than they have now, as far as somebody has looked.
CREATE VIEW octans_internal.other_files AS
SELECT DISTINCT r.run, past.variant
FROM octans_internal.run_environments AS r
JOIN octans_internal.environments AS past ON past.id = r.environment
JOIN octans_internal.present AS p ON lower(p.variant) = lower(past.variant)
JOIN octans_internal.environments AS now ON now.id = p.environment
WHERE past.artefact <> now.artefact;
