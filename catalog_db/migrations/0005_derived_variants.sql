-- Variants made from others: what was built, and the rows that entered it.

-- Rows of a subject's samples that a transform learnt from: they measure nothing any more. `row` is
-- the hash of a row's inputs, `cluster` of its cluster ('' where rows are independent).
CREATE TABLE octans_internal.building_rows (
    subject VARCHAR NOT NULL,
    artefact VARCHAR NOT NULL,
    "row" VARCHAR NOT NULL,
    cluster VARCHAR NOT NULL
);

CREATE VIEW octans.artefacts AS
SELECT name AS variant, body ->> '$.derivation.build.file' AS file,
    (body ->> '$.derivation.build.size_bytes')::BIGINT AS bytes,
    body ->> '$.derivation.base' AS base,
    (body ->> '$.derivation.build.base_version')::BIGINT AS base_version,
    body ->> '$.derivation.build.base_artefact' AS base_artefact,
    (body ->> '$.derivation.build.base_bytes')::BIGINT AS base_bytes,
    upper(body ->> '$.derivation.transform')
        || '(' || octans_internal.literals(body -> '$.derivation.args') || ')' AS transform,
    (body ->> '$.derivation.build.rows')::BIGINT AS learnt_from_rows,
    octans_internal.options(body -> '$.derivation.build.libraries') AS libraries,
    (body ->> '$.derivation.build.effect.size')::DOUBLE AS prior_size,
    (body -> '$.derivation.build.effect.quality')::DOUBLE[] AS prior_quality,
    (body -> '$.derivation.build.effect.latency')::DOUBLE[] AS prior_latency,
    body ->> '$.derivation.build.effect.source' AS prior_source,
    defined_at AS built_at
FROM octans_internal.current
WHERE kind = 'variant' AND json_type(body -> '$.derivation.build') = 'OBJECT'
ORDER BY key;

-- SHOW VARIANTS: every variant below what it is derived from. As far as anybody has looked at the
-- files, `again` says that it does not follow from its base any more, which what was derived from it
-- does not either, and `lost` that its own artefact is not what was built. `deriving.waiting` says
-- the same.
CREATE VIEW octans_internal.lineage AS
WITH RECURSIVE made AS (
    SELECT lower(p.variant) AS variant, e.artefact
    FROM octans_internal.present AS p
    JOIN octans_internal.environments AS e ON e.id = p.environment
),
listed AS (
    SELECT v.*, a.bytes, a.base_version, a.transform,
        CASE
            WHEN a.base_version <> parent.version OR (
                source.artefact <> a.base_artefact AND source.artefact <> 'unreadable'
            ) THEN 'its base changed'
        END AS changed,
        CASE
            WHEN a.file IS NULL THEN NULL
            WHEN own.artefact = 'unreadable' THEN 'its artefact is gone'
            WHEN own.artefact <> split_part(a.file, '.', 1) THEN 'its artefact was changed'
        END AS lost,
        row_number() OVER (
            PARTITION BY v.model, lower(v.derived_from) ORDER BY lower(v.variant)
        ) AS place,
        count(*) OVER (PARTITION BY v.model, lower(v.derived_from)) AS siblings,
        EXISTS (
            SELECT 1 FROM octans_internal.judged AS j
            WHERE j.is_current AND lower(j.variant) = lower(v.variant) AND j.metric = 'latency'
        ) AS timed,
        m.quality IS NULL OR EXISTS (
            SELECT 1 FROM octans_internal.judged AS j
            WHERE j.is_current AND lower(j.variant) = lower(v.variant) AND j.metric = 'quality'
        ) AS scored
    FROM octans.variants AS v
    LEFT JOIN octans.artefacts AS a ON a.variant = v.variant
    LEFT JOIN octans.variants AS parent ON lower(parent.variant) = lower(v.derived_from)
    LEFT JOIN octans.models AS m ON m.name = v.model
    LEFT JOIN made AS own ON own.variant = lower(v.variant)
    LEFT JOIN made AS source ON source.variant = lower(v.derived_from)
),
tree AS (
    SELECT *, split_part(variant, '.', 2) AS drawn, '' AS indent, [lower(variant)] AS path,
        changed AS again
    FROM listed WHERE derived_from IS NULL
    UNION ALL
    SELECT c.*,
        p.indent || CASE WHEN c.place = c.siblings THEN '└─ ' ELSE '├─ ' END
            || coalesce(c.transform, c.derived_by),
        p.indent || CASE WHEN c.place = c.siblings THEN '   ' ELSE '│  ' END,
        list_append(p.path, lower(c.variant)),
        coalesce(c.changed, CASE WHEN p.again IS NOT NULL THEN 'its base is to build again' END)
    FROM listed AS c JOIN tree AS p ON lower(c.derived_from) = lower(p.variant)
)
SELECT variant, drawn AS lineage, bytes,
    CASE
        WHEN derived_from IS NOT NULL AND base_version IS NULL THEN 'not built'
        WHEN again IS NOT NULL THEN 'to build again: ' || again
        WHEN lost IS NOT NULL THEN 'to build again: ' || lost
        WHEN timed AND scored THEN 'eligible'
        ELSE state
    END AS state,
    backend, options, knobs, base, version, model, path
FROM tree;
