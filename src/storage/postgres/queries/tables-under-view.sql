-- Finds the tables under a view, however deep: their columns, their triggers that call something of this schema, and the first
-- column of each index. $1 the view, $2 the schema.

WITH RECURSIVE seen (relation) AS (
  SELECT $1::text::regclass::oid
  UNION
  SELECT d.refobjid FROM seen JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = seen.relation
    JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
      AND d.refclassid = 'pg_class'::regclass
)
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind AS kind,
  pg_get_viewdef($1::text::regclass::oid, true) AS definition,
  (SELECT coalesce(json_agg(a.attname), '[]') FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
  (SELECT coalesce(json_agg(json_build_object('name', quote_ident(t.tgname), 'isFiring', t.tgenabled IN ('O', 'A'),
      'type', t.tgtype, 'ours', CASE WHEN p.pronamespace = to_regnamespace($2) THEN p.proname END,
      'args', encode(t.tgargs, 'hex'), 'of', (SELECT coalesce(json_agg(a.attname), '[]') FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr))) ORDER BY t.tgname), '[]')
    FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
      AND (p.pronamespace = to_regnamespace($2) OR p.prosrc LIKE '%' || $2 || '.notify\_%')) AS triggers,
  (SELECT coalesce(json_agg(a.attname), '[]') FROM pg_catalog.pg_index AS i
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] AND a.attnum > 0
    WHERE i.indrelid = c.oid AND i.indisvalid) AS indexed
  FROM seen JOIN pg_catalog.pg_class AS c ON c.oid = seen.relation JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'f') ORDER BY 1
