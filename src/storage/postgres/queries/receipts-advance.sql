-- Moves how far a user has read a conversation, or has been given it: to named messages, or up to a number. $1 topic, $2 user,
-- $3 kind, $4 ids of messages, $5 up to, $6 now. Says up to where it is now, and whether it has moved.

WITH topic AS (
  SELECT topic_id, ${ws}.head_seq(topic_id) AS seq FROM ${ws}.topics WHERE name = $1
), named AS (
  SELECT max(e.seq) AS seq FROM topic AS t JOIN ${ws}.events AS e USING (topic_id)
    WHERE e.id = ANY ($4::text[]) AND e.sender_id IS NOT NULL AND e.sender_id <> $2
      -- Of a deleted message only its payload says who had sent it; it is short.
      AND (e.sender_id <> '' OR strpos(e.payload, '"sender_id":' || to_json($2::text)::text) = 0)
), target AS (
  SELECT t.topic_id, greatest(coalesce(n.seq, 0), least($5::bigint, t.seq)) AS seq
    FROM topic AS t CROSS JOIN named AS n
), current AS (
  SELECT coalesce(max(r.seq), 0) AS seq, coalesce(max(r.seq) FILTER (WHERE r.kind = 'joined'), 0) AS joined
    FROM topic AS t JOIN ${ws}.receipts AS r USING (topic_id) WHERE r.user_id = $2 AND r.kind IN ($3, 'joined')
), moved AS (
  -- Counts as told up to where the user has joined: what was before is nobody's to tell.
  INSERT INTO ${ws}.receipts AS r (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT t.topic_id, $2, $3, t.seq, c.joined, $6::bigint FROM target AS t, current AS c WHERE t.seq > c.seq
    ON CONFLICT (topic_id, user_id, kind) DO UPDATE SET seq = excluded.seq,
      -- Stays at the first move that is not told yet, so that later ones cannot put its event off for ever.
      moved_at = CASE WHEN r.sent_seq < r.seq THEN r.moved_at ELSE excluded.moved_at END
      WHERE r.seq < excluded.seq
    RETURNING r.topic_id, r.seq
), moved_silently AS (
  -- The read event tells of what was delivered too: no delivered event is owed for what it covers.
  INSERT INTO ${ws}.receipts AS r (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT topic_id, $2, 'delivered', seq, seq, $6::bigint FROM moved WHERE $3 = 'read'
    ON CONFLICT (topic_id, user_id, kind) DO UPDATE SET
      seq = greatest(r.seq, excluded.seq), sent_seq = greatest(r.sent_seq, excluded.sent_seq)
)
SELECT greatest(coalesce((SELECT seq FROM target), 0), coalesce((SELECT seq FROM current), 0)) AS "upToSeq",
  EXISTS (SELECT FROM moved) AS advanced
