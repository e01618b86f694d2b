-- Puts rows of the outbox away with why nobody publishes them, and removes some of those that were kept for long enough.
-- $1 ids, $2 reasons, $3 how long they are kept, ms, $4 ids of those of which only the name of their message is kept.

WITH refused AS (
  SELECT * FROM unnest($1::text::bigint[], $2::text::text[]) AS r (id, reason)
), gone AS (
  DELETE FROM ${ws}.outbox AS o USING refused WHERE o.id = refused.id RETURNING o.*, refused.reason
), old AS (
  DELETE FROM ${ws}.outbox_rejected WHERE key IN (
    SELECT key FROM ${ws}.outbox_rejected WHERE rejected_at < now() - $3::text::float * interval '1 ms'
    ORDER BY rejected_at LIMIT ${oldAtOnce})
)
INSERT INTO ${ws}.outbox_rejected (key, topic, type, payload, event_key, except_device, created_at, reason)
  SELECT key, topic, type, CASE WHEN id = ANY ($4::text::bigint[]) THEN jsonb_build_object('message_id', payload -> 'message_id')
      ELSE payload END, event_key, except_device, created_at, reason FROM gone
