-- Finds those of some users who share a conversation with a user: for each of them from the one of both who is in fewer
-- conversations, and no further than to the first that both are in. ?1 the user, ?2 the others as JSON, ?3 in how many
-- conversations the user is.

SELECT value AS id FROM json_each(?2) WHERE value = ?1 OR CASE
  WHEN (SELECT count(*) FROM (SELECT 1 FROM members WHERE user_id = value LIMIT ?3)) < ?3
  THEN EXISTS (
    SELECT 1 FROM members AS theirs INDEXED BY members_by_user CROSS JOIN members AS mine
      ON mine.conversation_id = theirs.conversation_id AND mine.user_id = ?1
    WHERE theirs.user_id = value)
  ELSE EXISTS (
    SELECT 1 FROM members AS mine INDEXED BY members_by_user CROSS JOIN members AS theirs
      ON theirs.conversation_id = mine.conversation_id AND theirs.user_id = value
    WHERE mine.user_id = ?1)
  END
