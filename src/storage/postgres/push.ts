/** Keeps in PostgreSQL how far the log has been searched for missed events, by whose clock the lease runs out too [BAK3]. */
import type { CursorParts } from "../epochs.ts";
import type { PushStore } from "../push-store.ts";
import { arrayOf } from "./connection.ts";
import type { Pool } from "./pool.ts";

function statements(ws: string) {
  return {
    begin: `UPDATE ${ws}.push SET epoch = $1, position = $2 WHERE position IS NULL`,
    hasBegun: `SELECT position IS NOT NULL AS begun FROM ${ws}.push`,
    forget: `UPDATE ${ws}.push SET epoch = NULL, position = NULL WHERE position IS NOT NULL`,
    take: `SELECT epoch, position, is_ours AS "isOurs" FROM ${ws}.take_push($1, $2)`,
    move: `UPDATE ${ws}.push SET epoch = $2, position = $3 WHERE holder = $1 AND position IS NOT NULL RETURNING 1`,
    release: `UPDATE ${ws}.push SET held_until = 0 WHERE holder = $1`,
    lag: `SELECT greatest(0, coalesce((SELECT max(position) FROM ${ws}.events), 0) - p.position) AS behind,
        (SELECT e.created_at FROM ${ws}.events AS e WHERE e.position > p.position ORDER BY e.position LIMIT 1) AS "oldestAt"
      FROM ${ws}.push AS p WHERE p.position IS NOT NULL`,
    standing: `SELECT position FROM ${ws}.standing($1)`,
    receivedThrough: `SELECT n, seq FROM ${ws}.received_through($1, $2)`,
    acknowledgedBy: `SELECT user_id AS "userId", epoch, max(position) AS position
      FROM ${ws}.cursors WHERE user_id = ANY ($1::text[]) GROUP BY user_id, epoch`,
  };
}

export function createPushStore(pool: Pool, ws: string): PushStore {
  const sql = statements(ws);
  return {
    async begin({ epoch, position }) {
      await pool.query(sql.begin, [epoch, position]);
    },
    async hasBegun() {
      const [row] = await pool.query<{ begun: boolean }>(sql.hasBegun);
      return row!.begun;
    },
    async forget() {
      await pool.query(sql.forget);
    },
    async take({ holder, forMs }) {
      type Row = { epoch: string | null; position: number | null; isOurs: boolean };
      const [row] = await pool.query<Row>(sql.take, [holder, forMs]);
      const { epoch, position, isOurs } = row!;
      if (epoch === null || position === null) return { kind: "not_begun" };
      return isOurs ? { kind: "ours", place: { epoch, position } } : { kind: "elsewhere" };
    },
    async move(holder, { epoch, position }) {
      return (await pool.query(sql.move, [holder, epoch, position])).length > 0;
    },
    async release(holder) {
      await pool.query(sql.release, [holder]);
    },
    async lag() {
      const [row] = await pool.query<{ behind: number; oldestAt: number | null }>(sql.lag);
      return row === undefined ? null : { behind: row.behind, oldestAt: row.oldestAt };
    },
    async standing(positions) {
      const rows = await pool.query<{ position: number }>(sql.standing, [arrayOf(positions)]);
      return new Set(rows.map(({ position }) => position));
    },
    async receivedThrough(users) {
      const [topics, userIds] = [users.map(({ topic }) => topic), users.map(({ userId }) => userId)];
      const through = users.map(() => 0);
      type Row = { n: number; seq: number };
      for (const { n, seq } of await pool.query<Row>(sql.receivedThrough, [arrayOf(topics), arrayOf(userIds)]))
        through[n - 1] = seq;
      return through;
    },
    async acknowledgedBy(userIds) {
      return [...(await pool.query<{ userId: string } & CursorParts>(sql.acknowledgedBy, [arrayOf(userIds)]))];
    },
  };
}
