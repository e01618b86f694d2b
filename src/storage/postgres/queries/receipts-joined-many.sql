-- Does for many members what receipts-joined.sql does for one [REC3]. $1 users and $2 conversations as the view has them, $3 and
-- $4 the pairs of them that are meant, as topics and users.

WITH meant AS (
  SELECT * FROM unnest($3::text[], $4::text[]) AS m (topic, user_id)
), said AS (
  SELECT m.topic, m.user_id, floor(extract(epoch FROM v.joined_at::timestamptz) * 1000)::bigint AS at
    FROM ${members} AS v
    JOIN meant AS m ON m.topic = 'conversation:' || v.conversation_id::text AND m.user_id = v.user_id::text
    WHERE v.user_id = ANY ($1) AND v.conversation_id = ANY ($2) AND v.joined_at IS NOT NULL
)
INSERT INTO ${ws}.receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
  SELECT t.topic_id, s.user_id, 'joined', coalesce(b.seq, 0), coalesce(b.seq, 0), s.at
    FROM said AS s JOIN ${ws}.topics AS t ON t.name = s.topic
    LEFT JOIN ${ws}.receipts AS k ON k.topic_id = t.topic_id AND k.user_id = s.user_id AND k.kind = 'joined'
    LEFT JOIN LATERAL (
      SELECT e.seq FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id AND e.created_at < s.at
      ORDER BY e.seq DESC LIMIT 1) AS b ON true
    WHERE k.moved_at IS DISTINCT FROM s.at
    ORDER BY t.topic_id, s.user_id
  ON CONFLICT (topic_id, user_id, kind) DO UPDATE
    SET seq = excluded.seq, sent_seq = excluded.sent_seq, moved_at = excluded.moved_at
