-- Takes the oldest rows of the outbox for whoever has its lease, or has it from now on. Row by row, as far as the page goes:
-- what large rows would take to read that wait behind it would keep everything from ever being taken.

WITH RECURSIVE lease AS MATERIALIZED (
  SELECT pg_try_advisory_lock(hashtext('ws-service outbox'), hashtext('${ws}')) AS mine
), page AS (
  SELECT found.*, 1 AS place, octet_length(found.payload)::bigint AS bytes FROM lease CROSS JOIN LATERAL (
    SELECT id, key, topic, type, payload::text AS payload, event_key, except_device FROM ${ws}.outbox WHERE lease.mine
    ORDER BY id LIMIT 1) AS found
  UNION ALL
  SELECT found.*, page.place + 1, page.bytes + octet_length(found.payload) FROM page CROSS JOIN LATERAL (
    SELECT id, key, topic, type, payload::text AS payload, event_key, except_device FROM ${ws}.outbox WHERE id > page.id
    ORDER BY id LIMIT 1) AS found
    WHERE page.place < ${pageRows} AND page.bytes < ${pageBytesMax}
)
SELECT lease.mine, id::text AS id, key::text AS key, topic, type, payload, event_key, except_device
  FROM lease LEFT JOIN page ON true ORDER BY page.id
