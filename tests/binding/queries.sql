SELECT * FROM numbers WHERE double(id) > 10
SELECT *, double(id) FROM numbers WHERE id < 2
SELECT * EXCLUDE (name) REPLACE (double(id) AS id) FROM numbers LIMIT 2
SELECT COLUMNS('id|k') + 1, double(id) AS d FROM numbers LIMIT 1
SELECT double(COLUMNS('id|k')) FROM numbers LIMIT 2
SELECT classify(glyph).digit AS d, classify(glyph) AS c FROM glyphs WHERE classify(glyph).confidence > 0.1
SELECT s.a, glyphs.s.b, double(s.a) FROM glyphs
SELECT k, count(*) AS n, sum(double(id)) AS t FROM numbers GROUP BY k ORDER BY k
SELECT double(k) AS d, count(*) FROM numbers GROUP BY d HAVING count(*) > 2 ORDER BY ALL
SELECT double(k) AS d, count(*) FROM numbers GROUP BY ALL ORDER BY 1
SELECT shout(string_agg(name, '' ORDER BY id)) AS s, k FROM numbers GROUP BY k ORDER BY k
SELECT k, double(sum(double(id))::BIGINT) AS s FROM numbers GROUP BY k HAVING is_even(count(*)) ORDER BY s
SELECT count(*) FROM numbers WHERE is_even(id)
SELECT DISTINCT double(k) AS d FROM numbers ORDER BY d
SELECT id, CASE WHEN id > 5 THEN double(id) WHEN is_even(id) THEN -1 ELSE quadruple(id) END AS c FROM numbers ORDER BY id
SELECT id, COALESCE(CASE WHEN id < 3 THEN double(id) END, divide(id, 2).quotient) AS c FROM numbers ORDER BY id
SELECT id, row_number() OVER (PARTITION BY is_even(id) ORDER BY id DESC) AS r FROM numbers ORDER BY id
SELECT id, double(lag(id, 1, 0) OVER (ORDER BY id)) AS r FROM numbers ORDER BY id LIMIT 3
SELECT id FROM numbers QUALIFY row_number() OVER (PARTITION BY k ORDER BY double(id) DESC) = 1 ORDER BY id
SELECT n.id, label, double(n.id) FROM numbers n JOIN kinds USING (k) WHERE is_even(n.id)
SELECT n.id, l.label FROM numbers n JOIN kinds l ON n.k = l.k AND is_even(n.id)
WITH e AS (SELECT id, double(id) AS d FROM numbers WHERE is_even(id)) SELECT a.id, b.d FROM e a JOIN e b ON a.d = b.id
WITH e AS (SELECT id, double(id) AS d FROM numbers WHERE is_even(id)) SELECT sum(d) FROM e
SELECT * FROM (SELECT id, double(id) AS d FROM numbers) q LEFT JOIN kinds ON kinds.k = q.d ORDER BY id LIMIT 3
SELECT * FROM kinds FULL JOIN (SELECT id, double(id) AS d FROM numbers WHERE id < 2) q ON kinds.k = q.d ORDER BY ALL
SELECT id FROM numbers WHERE id IN (SELECT double(k) FROM kinds)
SELECT id, (SELECT max(double(k)) FROM kinds) AS m FROM numbers WHERE id < 2
SELECT id, double(id) IN (SELECT k FROM kinds) FROM numbers WHERE id < 3
SELECT double(id), (SELECT label FROM kinds WHERE kinds.k = numbers.k) FROM numbers WHERE id < 4
SELECT double(id) FROM numbers WHERE EXISTS (SELECT 1 FROM kinds WHERE kinds.k = numbers.k AND label = 'one')
SELECT id, double(id) FROM numbers WHERE id < 2 UNION ALL SELECT k, 7 FROM kinds
SELECT double(id) AS x FROM numbers UNION SELECT k FROM kinds ORDER BY x
SELECT double(unnest(xs)) AS d, id FROM lists
SELECT unnest(classify_all) FROM (SELECT [double(id), 1] AS classify_all FROM numbers WHERE id < 2)
SELECT double(id) AS d, d + 1 AS e FROM numbers WHERE d > 10
SELECT parts(id) AS p, parts(id).half FROM numbers WHERE id < 2
SELECT double(x) FROM (VALUES (1), (2)) v(x)
FROM numbers SELECT double(id) LIMIT 1
SELECT double(3)
SELECT double(id) FROM range(3) t(id)
SELECT double(range) FROM range(3)
WITH a AS (SELECT id FROM numbers WHERE id < 2) SELECT double(id) FROM a
WITH a AS (SELECT id FROM numbers WHERE id < 2) SELECT double(id) FROM numbers WHERE id IN (FROM a)
SELECT double(x := id) FROM numbers LIMIT 1
SELECT id FROM numbers ORDER BY double(k) DESC, id LIMIT 2 OFFSET 1
SELECT sum(double(id)) FILTER (WHERE is_even(id)) AS s FROM numbers
SELECT k, rank() OVER (ORDER BY sum(double(id))) FROM numbers GROUP BY k ORDER BY k
SELECT double(id) FROM numbers WHERE id > (SELECT avg(k) FROM kinds) LIMIT 1
SELECT list_transform(xs, lambda x: x + 1), double(id) FROM lists
SELECT [x + id FOR x IN xs IF x > 1], double(id) FROM lists
SELECT double(id) FROM numbers LIMIT 50%
SELECT k, sum(double(id)) FROM numbers GROUP BY ROLLUP (k) ORDER BY ALL
SELECT q FROM (SELECT double(id) AS d FROM numbers LIMIT 1) q
SELECT rowid, double(id) FROM numbers LIMIT 1
(SELECT double(id) AS d FROM numbers) ORDER BY d DESC LIMIT 1
SELECT a.id, double(b.id) FROM numbers a, numbers b WHERE a.id = b.id + 1 AND a.k = 0
SELECT id, double(id) BETWEEN 2 AND 6 FROM numbers WHERE NOT is_even(id) OR id = 0
SELECT id FROM numbers WHERE double(id) IN (SELECT id FROM numbers WHERE is_even(id))
SELECT id FROM numbers WHERE id NOT IN (SELECT double(k) FROM kinds)
SELECT id FROM numbers WHERE EXISTS (SELECT 1 FROM kinds WHERE is_even(k)) ORDER BY id
SELECT k, count(*) FROM numbers GROUP BY k HAVING count(*) > (SELECT min(double(k)) FROM kinds) ORDER BY k
SELECT id, double(id) AS d FROM numbers WHERE id < 3 UNION ALL SELECT k, double(k) FROM kinds ORDER BY 1, 2
(SELECT double(id) AS d FROM numbers) EXCEPT (SELECT k FROM kinds) ORDER BY d
(SELECT double(id) AS d FROM numbers) INTERSECT (SELECT double(k) FROM kinds) ORDER BY d
SELECT double(id) AS d FROM numbers WHERE id < 2 UNION ALL BY NAME SELECT k AS d, label FROM kinds
SELECT q.d, count(*) FROM (SELECT double(k) AS d FROM numbers) q GROUP BY q.d ORDER BY 1
SELECT x.id, y.d FROM (SELECT id, double(id) AS d FROM numbers) x JOIN (SELECT id, double(k) AS d FROM numbers) y ON x.id = y.id WHERE x.d > y.d
SELECT a.id FROM numbers a CROSS JOIN (SELECT max(double(k)) AS m FROM kinds) b WHERE a.id = b.m
SELECT * FROM (SELECT k, double(k) AS d FROM kinds) JOIN numbers USING (k) ORDER BY id
SELECT a.id FROM numbers a SEMI JOIN (SELECT double(k) AS d FROM kinds) b ON a.id = b.d
SELECT divide(id, 3) AS q, (q).quotient AS a, (q).remainder AS b FROM numbers ORDER BY b, a
SELECT id, shout(name) || '?' AS s FROM numbers WHERE shout(name) LIKE 'N%3!'
SELECT CASE k WHEN 0 THEN double(id) WHEN 1 THEN quadruple(id) END AS c FROM numbers ORDER BY id
SELECT CASE WHEN k = 0 THEN divide(id, id).quotient END FROM numbers WHERE id > 0 ORDER BY id
SELECT IF(is_even(id), double(id), id) FROM numbers ORDER BY id
SELECT sum(CASE WHEN is_even(id) THEN double(id) ELSE 0 END) FROM numbers
SELECT double(double(id)) FROM numbers WHERE is_even(double(k) + id) ORDER BY id
SELECT id FROM numbers WHERE is_even(id) AND double(id) > 3 AND k < 2 ORDER BY id
SELECT id FROM numbers WHERE is_even(id) OR double(id) > 9 ORDER BY id
SELECT id, sum(double(id)) OVER (ORDER BY id ROWS 1 PRECEDING) AS s FROM numbers ORDER BY id
SELECT id, double(id) AS d, avg(k) OVER () FROM numbers ORDER BY id
SELECT DISTINCT ON (k) k, double(id) AS d FROM numbers ORDER BY k, id
SELECT count(DISTINCT double(k)) FROM numbers
SELECT list(double(id) ORDER BY id DESC) AS l FROM numbers
SELECT double(k) + 1 AS g, max(id) FROM numbers GROUP BY double(k) + 1 ORDER BY g
SELECT g + 1, n FROM (SELECT double(k) AS g, count(*) AS n FROM numbers GROUP BY 1) ORDER BY 1
WITH a AS (SELECT id, double(id) AS d FROM numbers), b AS (SELECT max(d) AS m FROM a) SELECT a.id FROM a, b WHERE a.d = b.m
WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 3) SELECT double(x) FROM r ORDER BY x
WITH a(z) AS (SELECT double(id) FROM numbers) SELECT z FROM a WHERE z > 10 ORDER BY z
SELECT * FROM (SELECT double(id) AS d, k FROM numbers) AS t(a, b) WHERE a > b + 6 ORDER BY a
SELECT read_amount(strip) AS amount, id FROM strips ORDER BY id
SELECT branch, max(read_amount(strip)) FROM strips GROUP BY branch ORDER BY branch
SELECT id FROM strips WHERE read_amount(strip) > 100 ORDER BY id
SELECT id, double(id) FROM numbers ORDER BY name DESC NULLS FIRST LIMIT 3 OFFSET 2
SELECT id FROM numbers ORDER BY is_even(id), double(id) DESC
SELECT double(NULL), double(id) FROM numbers LIMIT 1
SELECT struct_pack(a := double(id)).a AS a FROM numbers ORDER BY a
SELECT CAST(double(id) AS VARCHAR) AS v FROM numbers WHERE id = 3
SELECT -double(id) AS m, double(id)::DOUBLE / 4 AS f FROM numbers WHERE id = 3
SELECT n.*, double(n.id) AS d FROM numbers AS n WHERE n.id = 3
SELECT kinds.label, d FROM kinds LEFT JOIN (SELECT id, double(id) AS d FROM numbers) q ON q.id = kinds.k AND q.d > 0 ORDER BY label
SELECT count(*) AS n FROM (SELECT id FROM numbers WHERE is_even(id)) WHERE id > 0
SELECT double(id) AS d FROM numbers ORDER BY ALL DESC LIMIT 1
SELECT id, double(id) AS d, id + d AS e, e * 2 AS f FROM numbers WHERE e > 12 ORDER BY f
SELECT k, double(count(*)) AS c, rank() OVER (ORDER BY count(*) DESC, k) AS r FROM numbers GROUP BY k ORDER BY k
SELECT min(id) FROM numbers GROUP BY is_even(id) ORDER BY 1
SELECT double(id) FROM numbers WHERE name = ANY (SELECT 'n' || k FROM kinds) ORDER BY 1
SELECT double((SELECT max(id) FROM numbers)) AS d
SELECT id, double(id) AS d FROM numbers WHERE d IN (0, 4, 6) ORDER BY id
SELECT double(id) IS NULL AS n FROM numbers WHERE double(id) IS NOT NULL LIMIT 1
SELECT unnest(xs) AS x, double(id) AS d FROM lists ORDER BY d, x
SELECT classify(glyph) FROM glyphs WHERE id = 2
SELECT max(classify(glyph).confidence) AS m, classify(glyph).digit AS d FROM glyphs GROUP BY d ORDER BY d
WITH a AS (SELECT id FROM numbers WHERE id < 2) SELECT double(id) AS d FROM a UNION ALL SELECT k FROM kinds ORDER BY d
WITH a AS (SELECT double(id) AS d FROM numbers WHERE id < 2) SELECT d FROM a UNION ALL SELECT d + 1 FROM a ORDER BY d
SELECT IF(is_even(id), double(id), rank() OVER (ORDER BY double(k))) AS c FROM numbers ORDER BY id
SELECT (SELECT id FROM numbers WHERE id = 3) + double(id) AS d FROM numbers UNION ALL (WITH b AS (SELECT k FROM kinds) SELECT double(k) FROM b) ORDER BY d
SELECT id FROM numbers WHERE double(k) ORDER BY id
SELECT double(id) AS d FROM numbers WHERE (k) AND id < 6 ORDER BY id
SELECT double(id), range FROM numbers, range(2) WHERE id < 3 ORDER BY id, range
SELECT double(a.range), double(b.range) FROM range(3) a, range(2) b
SELECT double(id), range.range, unnest FROM numbers, range(2), unnest([1, 2]) WHERE id < 3
SELECT double(id), g.generate_series, g FROM numbers, generate_series(2) g WHERE id < 3
