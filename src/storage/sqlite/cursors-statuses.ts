/** Keeps the tables of device acknowledgements [LOG6] and of statuses set by hand [PRE2]; runs in the worker only. */
import type { Database } from "bun:sqlite";
import { type CursorParts, readCursor, writeCursor } from "../epochs.ts";
import { type Acknowledgement, type DeviceOfUser, devicesRememberedMax, type UserStatus } from "../ports.ts";
import type { PresentUser } from "../present-store.ts";
import { type StatusRow, statusOf } from "../status-row.ts";

export class CursorTable {
  readonly #acknowledge;
  readonly #acknowledged;
  readonly #forgetOthers;
  readonly #seen;
  readonly #forget;
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
    // Of an epoch that is not known any more, or of a part of the log that is lost, whatever comes is better.
    const isAhead = `(excluded.position > c.position OR NOT EXISTS (
      SELECT 1 FROM epochs AS e WHERE e.id = c.epoch AND c.position <= coalesce(
        (SELECT min(later.began_at) FROM epochs AS later WHERE later.no > e.no), c.position)))`;
    this.#acknowledge = database.prepare<CursorParts, [string, string, string, number, number]>(
      `INSERT INTO cursors AS c (user_id, device_id, epoch, position, seen_at) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (user_id, device_id) DO UPDATE SET
         epoch = CASE WHEN ${isAhead} THEN excluded.epoch ELSE c.epoch END,
         position = CASE WHEN ${isAhead} THEN excluded.position ELSE c.position END,
         seen_at = max(c.seen_at, excluded.seen_at) RETURNING epoch, position`,
    );
    this.#forgetOthers = database.prepare<null, [string, string]>(
      `DELETE FROM cursors WHERE cursor_id IN (
         SELECT cursor_id FROM cursors WHERE user_id = ? AND device_id <> ?
         ORDER BY seen_at DESC, device_id LIMIT -1 OFFSET ${devicesRememberedMax - 1})`,
    );
    this.#seen = database.prepare<null, [string, number, number]>(
      `UPDATE cursors SET seen_at = ?2 FROM json_each(?1) AS d
       WHERE user_id = d.value ->> 'userId' AND device_id = d.value ->> 'deviceId' AND seen_at < ?3`,
    );
    this.#forget = database.prepare<null, [number, number]>(
      `DELETE FROM cursors WHERE cursor_id IN (
         SELECT cursor_id FROM cursors INDEXED BY cursors_by_age WHERE seen_at < ? ORDER BY seen_at LIMIT ?)`,
    );
    this.#acknowledged = database.prepare<CursorParts, [string, string]>(
      "SELECT epoch, position FROM cursors WHERE user_id = ? AND device_id = ?",
    );
  }

  acknowledge(acknowledgements: Acknowledgement[], now: number): string[] {
    const keep = ({ userId, deviceId, cursor }: Acknowledgement) => {
      const { epoch, position } = readCursor(cursor)!;
      this.#forgetOthers.run(userId, deviceId);
      return writeCursor(this.#acknowledge.get(userId, deviceId, epoch, position, now)!);
    };
    return this.#database.transaction(() => acknowledgements.map(keep)).immediate();
  }

  seen(devices: DeviceOfUser[], { now, notedBefore }: { now: number; notedBefore: number }): void {
    this.#seen.run(JSON.stringify(devices), now, notedBefore);
  }

  forget(seenBefore: number, limit: number): number {
    return this.#forget.run(seenBefore, limit).changes;
  }

  acknowledged(userId: string, deviceId: string): string | null {
    const row = this.#acknowledged.get(userId, deviceId);
    return row === null ? null : writeCursor(row);
  }
}

export type StatusEntries = [userId: string, entry: { status: UserStatus | null; lastSeenAt: number | null }][];

const statusColumns = "user_id AS userId, status, text, emoji, expires_at AS expiresAt, last_seen_at AS lastSeenAt";

export class StatusTable {
  readonly #set;
  readonly #get;
  readonly #getOne;
  readonly #setLastSeen;
  readonly #clearExpired;
  readonly #keepPresent;
  readonly #present;
  readonly #forgetPresent;
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
    this.#set = database.prepare<null, (string | number | null)[]>(
      `INSERT INTO statuses (user_id, status, text, emoji, expires_at) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (user_id) DO UPDATE SET
         status = excluded.status, text = excluded.text, emoji = excluded.emoji, expires_at = excluded.expires_at`,
    );
    this.#get = database.prepare<StatusRow, [string]>(
      `SELECT ${statusColumns}
       FROM json_each(?) AS wanted CROSS JOIN statuses ON user_id = wanted.value`,
    );
    this.#getOne = database.prepare<StatusRow, [string]>(`SELECT ${statusColumns} FROM statuses WHERE user_id = ?`);
    // WHERE true tells the parser that ON belongs to the upsert.
    this.#setLastSeen = database.prepare<null, [string, number]>(
      `INSERT INTO statuses (user_id, last_seen_at) SELECT value, ?2 FROM json_each(?1) WHERE true
       ON CONFLICT (user_id) DO UPDATE SET last_seen_at = max(coalesce(last_seen_at, 0), excluded.last_seen_at)`,
    );
    this.#clearExpired = database.prepare<null, [number, number]>(
      `UPDATE statuses SET status = NULL, text = NULL, emoji = NULL, expires_at = NULL
       WHERE user_id IN (SELECT user_id FROM statuses INDEXED BY statuses_by_expiry
         WHERE expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?)`,
    );
    this.#keepPresent = database.prepare<null, [string]>(
      `INSERT INTO statuses (user_id, present) SELECT value ->> 'userId', value ->> 'record' FROM json_each(?) WHERE true
       ON CONFLICT (user_id) DO UPDATE SET present = excluded.present`,
    );
    this.#present = database.prepare<PresentUser, [number]>(
      `SELECT user_id AS userId, present AS record FROM statuses INDEXED BY statuses_present
       WHERE present IS NOT NULL AND user_id >= '' LIMIT ?`,
    );
    this.#forgetPresent = database.prepare<null, [string]>(
      "UPDATE statuses SET present = NULL FROM json_each(?) AS taken WHERE user_id = taken.value ->> 'userId'",
    );
  }

  set(userId: string, status: UserStatus | null): void {
    this.#set.run(
      userId,
      status?.status ?? null,
      status?.text ?? null,
      status?.emoji ?? null,
      status?.expiresAt ?? null,
    );
  }

  /** Users of whom nothing is known are left out. */
  get(userIds: string[]): StatusEntries {
    // Mostly it is asked for one user, who comes.
    const rows = userIds.length === 1 ? this.#getOne.all(userIds[0]!) : this.#get.all(JSON.stringify(userIds));
    return rows.map((row) => [row.userId, { status: statusOf(row), lastSeenAt: row.lastSeenAt }]);
  }

  setLastSeen(userIds: string[], at: number): void {
    this.#setLastSeen.run(JSON.stringify(userIds), at);
  }

  keepPresent(present: PresentUser[]): void {
    this.#keepPresent.run(JSON.stringify(present));
  }

  takePresent(limit: number): PresentUser[] {
    return this.#database
      .transaction(() => {
        const present = this.#present.all(limit);
        this.#forgetPresent.run(JSON.stringify(present));
        return present;
      })
      .immediate();
  }

  clearExpired(now: number, limit: number): number {
    return this.#clearExpired.run(now, limit).changes;
  }
}
