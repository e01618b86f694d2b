-- Notes where members have joined conversations by the moments that a view of members says, and counts what was before as read
-- [REC3]. Looks once for each moment of joining, from the newest event back to the last one before it. joinings: a query of
-- topics and users with the moment of each.

WITH said AS (
  -- Once for each: a view may name a member twice, and a row is written once by a statement.
  SELECT j.topic, j.user_id, floor(extract(epoch FROM max(j.joined_at::timestamptz)) * 1000)::bigint AS at
    FROM (${joinings}) AS j (topic, user_id, joined_at) WHERE j.joined_at IS NOT NULL GROUP BY j.topic, j.user_id
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
