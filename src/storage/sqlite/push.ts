/** Keeps the table of how far the log has been searched for missed events, and asks what others keep [BAK3]; runs in the worker only. */
import type { Database } from "bun:sqlite";
import type { CursorParts } from "../epochs.ts";
import type { PushLease, PushStore, PushTurn, UserOnTopic } from "../push-store.ts";

interface PushRow {
  epoch: string | null;
  position: number | null;
  holder: string;
  heldUntil: number;
}

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    row: by<PushRow, []>("SELECT epoch, position, holder, held_until AS heldUntil FROM push"),
    begin: by<null, [string, number]>("UPDATE push SET epoch = ?, position = ? WHERE position IS NULL"),
    forget: by<null, []>("UPDATE push SET epoch = NULL, position = NULL WHERE position IS NOT NULL"),
    hold: by<null, [string, number]>("UPDATE push SET holder = ?, held_until = ?"),
    move: by<null, [string, number, string]>(
      "UPDATE push SET epoch = ?, position = ? WHERE holder = ? AND position IS NOT NULL",
    ),
    release: by<null, [string]>("UPDATE push SET held_until = 0 WHERE holder = ?"),
    lag: by<{ behind: number; oldestAt: number | null }, []>(
      `SELECT max(0, (SELECT position FROM log_end) - push.position) AS behind,
         (SELECT e.created_at FROM events AS e WHERE e.position > push.position ORDER BY e.position LIMIT 1) AS oldestAt
       FROM push WHERE push.position IS NOT NULL`,
    ),
    standing: by<{ position: number }, [string]>(
      `SELECT e.position FROM json_each(?) AS wanted CROSS JOIN events AS e ON e.position = wanted.value
       WHERE e.sender_id IS NULL OR e.sender_id <> ''`,
    ),
    receivedThrough: by<{ at: number; seq: number }, [string]>(
      `SELECT wanted.key AS at, max(r.seq) AS seq FROM json_each(?) AS wanted
       CROSS JOIN topics AS t ON t.name = wanted.value ->> 'topic'
       CROSS JOIN receipts AS r ON r.topic_id = t.topic_id AND r.user_id = wanted.value ->> 'userId'
       WHERE r.kind NOT IN ('left', 'replaced') GROUP BY wanted.key`,
    ),
    acknowledgedBy: by<{ userId: string } & CursorParts, [string]>(
      `SELECT c.user_id AS userId, c.epoch, max(c.position) AS position
       FROM json_each(?) AS wanted CROSS JOIN cursors AS c ON c.user_id = wanted.value GROUP BY c.user_id, c.epoch`,
    ),
  };
}

export class PushTable {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #take: (lease: PushLease, now: number) => PushTurn;

  constructor(database: Database) {
    this.#sql = prepare(database);
    const take = database.transaction((lease: PushLease, now: number) => this.#taken(lease, now));
    this.#take = (lease, now) => {
      // Read first: most of the time nothing is to be written.
      const turn = this.#turn(lease, now);
      return turn ?? take.immediate(lease, now);
    };
  }

  begin({ epoch, position }: CursorParts): void {
    this.#sql.begin.run(epoch, position);
  }

  hasBegun(): boolean {
    return this.#sql.row.get()!.position !== null;
  }

  forget(): void {
    this.#sql.forget.run();
  }

  /** @param now when it is asked for, ms since 1970 */
  take(lease: PushLease, now: number): PushTurn {
    return this.#take(lease, now);
  }

  move(holder: string, { epoch, position }: CursorParts): boolean {
    return this.#sql.move.run(epoch, position, holder).changes > 0;
  }

  release(holder: string): void {
    this.#sql.release.run(holder);
  }

  lag(): Awaited<ReturnType<PushStore["lag"]>> {
    return this.#sql.lag.get();
  }

  standing(positions: number[]): number[] {
    return this.#sql.standing.all(JSON.stringify(positions)).map(({ position }) => position);
  }

  receivedThrough(users: UserOnTopic[]): number[] {
    const through = users.map(() => 0);
    for (const { at, seq } of this.#sql.receivedThrough.all(JSON.stringify(users))) through[at] = seq;
    return through;
  }

  acknowledgedBy(userIds: string[]): ({ userId: string } & CursorParts)[] {
    return this.#sql.acknowledgedBy.all(JSON.stringify(userIds));
  }

  /** @returns undefined where the lease is to be written */
  #turn({ holder, forMs }: PushLease, now: number): PushTurn | undefined {
    const row = this.#sql.row.get()!;
    if (row.epoch === null || row.position === null) return { kind: "not_begun" };
    if (row.heldUntil <= now || (row.holder === holder && row.heldUntil < now + forMs / 2)) return undefined;
    if (row.holder !== holder) return { kind: "elsewhere" };
    return { kind: "ours", place: { epoch: row.epoch, position: row.position } };
  }

  #taken(lease: PushLease, now: number): PushTurn {
    const turn = this.#turn(lease, now);
    if (turn !== undefined) return turn;
    this.#sql.hold.run(lease.holder, Math.ceil(now + lease.forMs));
    return this.#turn(lease, now)!;
  }
}
