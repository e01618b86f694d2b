/** The function that shows whether the log can be written to, without writing to it. */

/** @param ws the schema's name */
export const writeProof = (ws: string) => `
CREATE FUNCTION ${ws}.prove_writes(payload_bytes bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $prove_writes$
BEGIN
  BEGIN
    -- An event as large as asked for that cannot be compressed, under numbers that no other session takes.
    INSERT INTO ${ws}.events (topic_id, position, seq, created_at, id, type, payload)
      SELECT 0, -pg_backend_pid(), -pg_backend_pid(), 0, '', '', coalesce(string_agg(md5(random()::text), ''), '')
        FROM generate_series(1, payload_bytes / 32);
    -- Touches no row that an append would wait for, and needs the right all the same.
    UPDATE ${ws}.topics SET seq = seq WHERE false;
    UPDATE ${ws}.log_state SET position = position WHERE false;
    RAISE SQLSTATE 'WS001';
  EXCEPTION WHEN SQLSTATE 'WS001' THEN
    -- Taken back; the transaction still has a commit to write.
    NULL;
  END;
END
$prove_writes$;
COMMENT ON FUNCTION ${ws}.prove_writes IS
  'Fails where an append of so many bytes would: read-only, no room, no right. Leaves nothing behind.';
`;
