-- Renames idempotency keys to stand by topic, with the digest of what was said under them [LOG2]: a retry across the upgrade
-- appends nothing. Of one key that several publishers or ways in had used on one topic, the first stays.

ALTER TABLE ${ws}.idempotency_keys ADD COLUMN digest text;
COMMENT ON COLUMN ${ws}.idempotency_keys.digest IS
  'Of what was said under the key; null: not kept, whatever is said under it again is the same.';

UPDATE ${ws}.idempotency_keys AS k SET key = regexp_replace(renamed.key, '^key:([^:]*:[^:]*):message:', 'id:\1:')
  FROM (
    SELECT DISTINCT ON (key) key, old_key FROM (
      SELECT key AS old_key, position, CASE
        -- message:<user>:<client_message_id>
        WHEN key LIKE 'message:%' THEN 'sent:' || split_part(key, ':', 2) || ':'
          || replace(substr(topic, length('conversation:') + 1), ':', ' ') || ':'
          || regexp_replace(key, '^[^:]*:[^:]*:', '')
        -- event:<publisher>:<kind of topic>:<its id>:<event_key, or message:<message_id>>
        WHEN key LIKE 'event:%' THEN regexp_replace(key, '^event:[^:]*:', 'key:')
        -- outbox-key:<kind of topic>:<its id>:<as above>
        ELSE regexp_replace(key, '^[a-z]+-key:', 'key:') END AS key
      FROM ${ws}.idempotency_keys WHERE key ~ '^(message|event|outbox-key|stream-key):') AS old
    ORDER BY key, position) AS renamed
  WHERE k.key = renamed.old_key;
DELETE FROM ${ws}.idempotency_keys WHERE key ~ '^(message|event|outbox-key|stream-key):';
