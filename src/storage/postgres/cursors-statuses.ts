/** Keeps device acknowledgements [LOG6] and statuses set by hand [PRE2] in PostgreSQL. */
import { Gathering } from "../../ground/gathering.ts";
import { type CursorParts, readCursor, writeCursor } from "../epochs.ts";
import { type CursorStore, devicesRememberedMax, type StatusStore } from "../ports.ts";
import type { PresentUser } from "../present-store.ts";
import { type StatusRow, statusOf } from "../status-row.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

export function createCursorStore(pool: Pool, ws: string, now: () => number): CursorStore {
  const acknowledge = `SELECT user_id AS "userId", epoch, position FROM ${ws}.acknowledge($1, $2, $3, $4, $5, $6)`;
  const acknowledged = `SELECT epoch, position FROM ${ws}.cursors WHERE user_id = $1 AND device_id = $2`;
  // Passes over rows that are locked: whoever has one is about to write the same, or better.
  const seen = `UPDATE ${ws}.cursors AS c SET seen_at = $3 FROM (
      SELECT user_id, device_id FROM ${ws}.cursors JOIN unnest($1::text[], $2::text[]) AS d (user_id, device_id)
        USING (user_id, device_id) WHERE seen_at < $4 FOR UPDATE OF cursors SKIP LOCKED) AS s
    WHERE c.user_id = s.user_id AND c.device_id = s.device_id`;
  const forget = `WITH old AS MATERIALIZED (
      SELECT user_id, device_id FROM ${ws}.cursors WHERE seen_at < $1 ORDER BY seen_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), gone AS (
      DELETE FROM ${ws}.cursors AS c USING old WHERE c.user_id = old.user_id AND c.device_id = old.device_id RETURNING 1)
    SELECT count(*) AS count FROM gone`;
  return {
    async acknowledge(acknowledgements) {
      const parts = acknowledgements.map(({ cursor }) => readCursor(cursor)!);
      const rows = await pool.query<CursorParts & { userId: string }>(acknowledge, [
        arrayOf(acknowledgements.map(({ userId }) => userId)),
        arrayOf(acknowledgements.map(({ deviceId }) => deviceId)),
        arrayOf(parts.map(({ epoch }) => epoch)),
        arrayOf(parts.map(({ position }) => position)),
        now(),
        devicesRememberedMax - 1,
      ]);
      const kept = new Map(rows.map((row) => [row.userId, writeCursor(row)]));
      return acknowledgements.map(({ userId }) => kept.get(userId)!);
    },
    async seen(devices, unlessWithinMs) {
      const [users, ids] = [devices.map((it) => it.userId), devices.map((it) => it.deviceId)];
      await pool.query(seen, [arrayOf(users), arrayOf(ids), now(), now() - unlessWithinMs]);
    },
    async forget(seenBefore, limit) {
      const [row] = await pool.query<{ count: number }>(forget, [seenBefore, limit]);
      return row!.count;
    },
    async acknowledged(userId, deviceId) {
      const [row] = await pool.query<CursorParts>(acknowledged, [userId, deviceId]);
      return row === undefined ? null : writeCursor(row);
    },
  };
}

function statements(ws: string) {
  return {
    set: `INSERT INTO ${ws}.statuses (user_id, status, text, emoji, expires_at) VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (user_id) DO UPDATE SET
        status = excluded.status, text = excluded.text, emoji = excluded.emoji, expires_at = excluded.expires_at`,
    get: `SELECT user_id AS "userId", status, text, emoji, expires_at AS "expiresAt", last_seen_at AS "lastSeenAt"
      FROM ${ws}.statuses WHERE user_id = ANY ($1::text[])`,
    // In one order everywhere, so that two nodes cannot wait for each other.
    setLastSeen: `INSERT INTO ${ws}.statuses AS s (user_id, last_seen_at)
      SELECT DISTINCT user_id, $2::bigint FROM unnest($1::text[]) AS seen (user_id) ORDER BY user_id
      ON CONFLICT (user_id) DO UPDATE SET last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at)`,
    clearExpired: `WITH expired AS MATERIALIZED (
        SELECT user_id FROM ${ws}.statuses WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
      UPDATE ${ws}.statuses AS s SET status = NULL, text = NULL, emoji = NULL, expires_at = NULL
      FROM expired AS e WHERE s.user_id = e.user_id RETURNING s.user_id`,
    keepPresent: `INSERT INTO ${ws}.statuses AS s (user_id, present)
      SELECT user_id, present FROM unnest($1::text[], $2::text[]) AS kept (user_id, present) ORDER BY user_id
      ON CONFLICT (user_id) DO UPDATE SET present = excluded.present`,
    takePresent: `WITH kept AS MATERIALIZED (
        SELECT user_id, present FROM ${ws}.statuses WHERE present IS NOT NULL LIMIT $1 FOR UPDATE SKIP LOCKED)
      UPDATE ${ws}.statuses AS s SET present = NULL FROM kept AS k WHERE s.user_id = k.user_id
      RETURNING k.user_id AS "userId", k.present AS record`,
  };
}

/** Users of one question that is asked together with others', and such questions of one statement. */
const gatheredMax = 20;
const atOnceMax = 50;
const underWayMax = 4;

type Statuses = Awaited<ReturnType<StatusStore["get"]>>;

export function createStatusStore(pool: Pool, schema: string): StatusStore {
  const sql = statements(schema);

  async function getAll(userIds: string[]): Promise<Statuses> {
    const rows = await pool.query<StatusRow>(sql.get, [arrayOf(userIds)]);
    const known = rows.map((row) => [row.userId, { status: statusOf(row), lastSeenAt: row.lastSeenAt }] as const);
    return new Map([...userIds.map((userId) => [userId, { status: null, lastSeenAt: null }] as const), ...known]);
  }

  const gathering = new Gathering({
    async ask(questions: string[][]): Promise<Statuses[]> {
      const found = await getAll([...new Set(questions.flat())]);
      return questions.map((userIds) => new Map(userIds.map((userId) => [userId, found.get(userId)!])));
    },
    atOnceMax,
    underWayMax,
  });
  return {
    async set(userId, status) {
      const { status: kind = null, text = null, emoji = null, expiresAt = null } = status ?? {};
      await pool.query(sql.set, [userId, kind, text, emoji, expiresAt]);
    },
    get: (userIds) => (userIds.length > gatheredMax ? getAll(userIds) : gathering.ask(userIds)),
    async setLastSeen(userIds, at) {
      await pool.query(sql.setLastSeen, [arrayOf(userIds), at]);
    },
    async clearExpired(now, limit) {
      return (await pool.query(sql.clearExpired, [now, limit])).length;
    },
    async keepPresent(present) {
      const [userIds, records] = [present.map(({ userId }) => userId), present.map(({ record }) => record)];
      await pool.query(sql.keepPresent, [arrayOf(userIds), arrayOf(records)]);
    },
    async takePresent(limit) {
      return pool.query<PresentUser>(sql.takePresent, [limit]);
    },
  };
}
