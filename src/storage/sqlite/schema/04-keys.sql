-- Renames idempotency keys to stand by topic, with the digest of what was said under them [LOG2]: what was appended before is
-- found by its new key, the first where several publishers or ways in had used one key on one topic.

ALTER TABLE idempotency_keys ADD COLUMN digest TEXT;
-- message:<user>:<client_message_id>
UPDATE idempotency_keys SET key = 'sent' || substr(key, 8, instr(substr(key, 9), ':') + 1)
    || replace(substr((SELECT name FROM topics AS t WHERE t.topic_id = idempotency_keys.topic_id), 14), ':', ' ')
    || substr(key, 8 + instr(substr(key, 9), ':'))
  WHERE key LIKE 'message:%';
-- event:<publisher>:<kind of topic>:<its id>:<event_key, or message:<message_id>>
UPDATE OR IGNORE idempotency_keys SET key = 'key' || substr(key, 6 + instr(substr(key, 7), ':'))
  WHERE key LIKE 'event:%' OR key LIKE 'stream-key:%';
UPDATE idempotency_keys SET key = 'id:' || substr(p.parts, 1, p.scope) || substr(p.parts, p.scope + 9)
  FROM (
    SELECT key_id, parts, kind + instr(substr(parts, kind + 1), ':') AS scope
    FROM (SELECT key_id, substr(key, 5) AS parts, instr(substr(key, 5), ':') AS kind
      FROM idempotency_keys WHERE key LIKE 'key:%')) AS p
  WHERE p.key_id = idempotency_keys.key_id AND substr(p.parts, p.scope + 1, 8) = 'message:';
DELETE FROM idempotency_keys WHERE key LIKE 'event:%' OR key LIKE 'stream-key:%';
