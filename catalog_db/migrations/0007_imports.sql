-- Imported observations that no plan looks up, and variants that never answer.

-- Why an observation is not looked up although what it names is declared: a setting of knobs that
-- its variant does not declare, a metric that no plan is made with.
CREATE TABLE octans_internal.unused (observation BIGINT NOT NULL, reason VARCHAR NOT NULL);
