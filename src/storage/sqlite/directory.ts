/** Keeps the directory's tables and the log of their changes [PUB3]; runs in the worker only. */
import type { Database } from "bun:sqlite";
import type { DirectoryChange, Member, Membership, Standing, UserState } from "../directory-store.ts";
import { sqlOf } from "../sql-text.ts";
import sharingWith from "./queries/sharing-with.sql" with { type: "text" };

/** How many changes one look takes; one that is further behind is better off starting over. */
const changesPerLook = 1_000;

/** Members and conversations that one step towards a user's peers looks at: what others ask comes in between. */
const looksPerStep = 4_000;

/** Where a step begins: in a conversation, after one of its members; both empty at first. */
export interface PeersPosition {
  conversationId: string;
  after: string;
}

export interface ChangesPage {
  changes: DirectoryChange[];
  /** Where the next look begins. */
  last: number;
}

interface ChangeRow {
  changeId: number;
  kind: DirectoryChange["kind"];
  conversationId: string;
  userId: string;
  at: number;
}

interface MemberRow {
  id: string;
  mayWrite: 0 | 1;
}

/** Ids of conversations or users, each with the membership that was asked for. */
export type MembershipEntries = [id: string, membership: Membership][];

function prepare(database: Database) {
  const by = <Row, Arguments extends (string | number)[]>(sql: string) => database.prepare<Row, Arguments>(sql);
  return {
    user: by<{ disabled: number | null; blocked: number }, [string, number]>(
      `SELECT (SELECT disabled FROM users WHERE user_id = ?1) AS disabled,
         EXISTS (SELECT 1 FROM blocks WHERE user_id = ?1 AND ends_at > ?2)
           OR EXISTS (SELECT 1 FROM erasures WHERE user_id = ?1) AS blocked`,
    ),
    standing: by<{ disabled: number | null; blockedUntil: number | null }, [string, number]>(
      `SELECT (SELECT disabled FROM users WHERE user_id = ?1) AS disabled,
         (SELECT ends_at FROM blocks WHERE user_id = ?1 AND ends_at > ?2) AS blockedUntil`,
    ),
    block: by<null, [string, number]>(
      `INSERT INTO blocks (user_id, ends_at) VALUES (?, ?)
       ON CONFLICT (user_id) DO UPDATE SET ends_at = excluded.ends_at`,
    ),
    forgetBlocks: by<null, [number]>("DELETE FROM blocks WHERE ends_at <= ?"),
    recheck: by<null, [string]>("INSERT INTO directory_changes (kind, user_id) VALUES ('user_changed', ?)"),
    membershipsAmong: by<MemberRow, [string, string]>(
      `SELECT value AS id, may_write AS mayWrite FROM json_each(?2)
       CROSS JOIN members ON conversation_id = value AND user_id = ?1`,
    ),
    membersAmong: by<MemberRow, [string, string]>(
      `SELECT value AS id, may_write AS mayWrite FROM json_each(?2)
       CROSS JOIN members ON conversation_id = ?1 AND user_id = value`,
    ),
    membersPage: by<MemberRow, [string, string, number]>(
      `SELECT user_id AS id, may_write AS mayWrite FROM members
       WHERE conversation_id = ? AND user_id > ? ORDER BY user_id LIMIT ?`,
    ),
    membersOf: by<{ id: string }, [string, number]>(
      "SELECT user_id AS id FROM members WHERE conversation_id = ? LIMIT ?",
    ),
    memberCount: by<{ count: number }, [string, number]>(
      "SELECT count(*) AS count FROM (SELECT 1 FROM members WHERE conversation_id = ? LIMIT ?)",
    ),
    conversationsOf: by<{ id: string }, [string]>("SELECT conversation_id AS id FROM members WHERE user_id = ?"),
    nextConversation: by<{ id: string }, [string, string]>(
      "SELECT conversation_id AS id FROM members WHERE user_id = ? AND conversation_id > ? ORDER BY conversation_id LIMIT 1",
    ),
    membersAfter: by<{ id: string }, [string, string, number]>(
      "SELECT user_id AS id FROM members WHERE conversation_id = ? AND user_id > ? ORDER BY user_id LIMIT ?",
    ),
    conversationCount: by<{ count: number }, [string]>("SELECT count(*) AS count FROM members WHERE user_id = ?"),
    sharingWith: by<{ id: string }, [string, string, number]>(sqlOf(sharingWith)),
    upsertUsers: by<null, [string]>("INSERT OR IGNORE INTO users (user_id) SELECT value FROM json_each(?)"),
    setDisabled: by<null, [string, number]>(
      `INSERT INTO users (user_id, disabled) VALUES (?, ?)
       ON CONFLICT (user_id) DO UPDATE SET disabled = excluded.disabled`,
    ),
    addMembers: by<null, [string, string]>(
      "INSERT OR IGNORE INTO members (conversation_id, user_id) SELECT ?1, value FROM json_each(?2)",
    ),
    addMemberships: by<null, [string, string]>(
      "INSERT OR IGNORE INTO members (conversation_id, user_id) SELECT value, ?1 FROM json_each(?2)",
    ),
    removeMembers: by<null, [string, string]>(
      "DELETE FROM members WHERE conversation_id = ?1 AND user_id IN (SELECT value FROM json_each(?2))",
    ),
    setMayWrite: by<null, [string, string, number]>(
      "UPDATE members SET may_write = ?3 WHERE conversation_id = ?1 AND user_id = ?2",
    ),
    // Changes with every commit of another connection, and never with our own.
    foreignVersion: by<{ data_version: number }, []>("PRAGMA data_version"),
    lastChange: by<{ last: number | null }, []>("SELECT max(change_id) AS last FROM directory_changes"),
    changesAfter: by<ChangeRow, [number, number]>(
      `SELECT change_id AS changeId, kind, conversation_id AS conversationId, user_id AS userId, changed_at AS at
       FROM directory_changes WHERE change_id > ? ORDER BY change_id LIMIT ?`,
    ),
  };
}

export class DirectoryTables {
  readonly #database: Database;
  readonly #sql: ReturnType<typeof prepare>;
  /** The state of the file that was looked at last; null after a write of our own. */
  #seen: { foreignVersion: number; last: number } | null = null;

  constructor(database: Database) {
    this.#database = database;
    this.#sql = prepare(database);
  }

  userState(userId: string, now: number): UserState {
    const { disabled, blocked } = this.#sql.user.get(userId, now)!;
    if (disabled || blocked) return "disabled";
    return disabled === null ? "unknown" : "active";
  }

  standingOf(userId: string, now: number): Standing {
    const { disabled, blockedUntil } = this.#sql.standing.get(userId, now)!;
    return { state: disabled === null ? "unknown" : disabled ? "disabled" : "active", blockedUntil };
  }

  /** Blocks somebody, and removes blocks that have ended. */
  block(userId: string, until: number, now: number): void {
    this.#write(() => {
      this.#sql.block.run(userId, until);
      this.#sql.forgetBlocks.run(now);
    });
  }

  recheck(userId: string): void {
    this.#write(() => this.#sql.recheck.run(userId));
  }

  membershipsAmong(userId: string, conversationIds: string[]): MembershipEntries {
    return this.#sql.membershipsAmong.all(userId, JSON.stringify(conversationIds)).map(toEntry);
  }

  membersAmong(conversationId: string, userIds: string[]): MembershipEntries {
    return this.#sql.membersAmong.all(conversationId, JSON.stringify(userIds)).map(toEntry);
  }

  /** @param after empty at first */
  membersPage(conversationId: string, after: string, limit: number): Member[] {
    const rows = this.#sql.membersPage.all(conversationId, after, limit);
    return rows.map(({ id, mayWrite }) => ({ userId: id, mayWrite: mayWrite === 1 }));
  }

  /** @param limit of each; those without members are left out */
  membersOfEach(conversationIds: string[], limit: number): [conversationId: string, members: string[]][] {
    return conversationIds.flatMap((conversationId): [string, string[]][] => {
      const members = this.membersOf(conversationId, limit);
      return members.length === 0 ? [] : [[conversationId, members]];
    });
  }

  memberCounts(conversationIds: string[], most: number): [conversationId: string, count: number][] {
    return conversationIds.map((id) => [id, this.#sql.memberCount.get(id, most)!.count]);
  }

  /** @param limit below 0: all */
  membersOf(conversationId: string, limit: number): string[] {
    return this.#sql.membersOf.all(conversationId, limit).map(({ id }) => id);
  }

  conversationsOf(userId: string): string[] {
    return this.#sql.conversationsOf.all(userId).map(({ id }) => id);
  }

  /** Finds as many of a user's peers as one step does, the user itself among them; then it goes on from `next`. */
  peersAfter(userId: string, from: PeersPosition): { ids: string[]; next: PeersPosition | null } {
    const ids = new Set<string>();
    let { conversationId, after } = from;
    for (let looks = 0; looks < looksPerStep; looks++) {
      const members =
        conversationId === "" ? [] : this.#sql.membersAfter.all(conversationId, after, looksPerStep - looks);
      for (const { id } of members) ids.add(id);
      looks += members.length;
      if (looks >= looksPerStep) return { ids: [...ids], next: { conversationId, after: members.at(-1)?.id ?? after } };
      const next = this.#sql.nextConversation.get(userId, conversationId);
      if (next === null) return { ids: [...ids], next: null };
      conversationId = next.id;
      after = "";
    }
    return { ids: [...ids], next: { conversationId, after } };
  }

  sharingWith(userId: string, userIds: string[]): string[] {
    const { count } = this.#sql.conversationCount.get(userId)!;
    return this.#sql.sharingWith.all(userId, JSON.stringify(userIds), count).map(({ id }) => id);
  }

  upsertUsers(userIds: string[]): void {
    this.#write(() => this.#sql.upsertUsers.run(JSON.stringify(userIds)));
  }

  setDisabled(userId: string, disabled: boolean): void {
    this.#write(() => this.#sql.setDisabled.run(userId, disabled ? 1 : 0));
  }

  addMembers(conversationId: string, userIds: string[]): void {
    this.#write(() => this.#sql.addMembers.run(conversationId, JSON.stringify(userIds)));
  }

  addMemberships(userId: string, conversationIds: string[]): void {
    this.#write(() => this.#sql.addMemberships.run(userId, JSON.stringify(conversationIds)));
  }

  removeMembers(conversationId: string, userIds: string[]): void {
    this.#write(() => this.#sql.removeMembers.run(conversationId, JSON.stringify(userIds)));
  }

  /** @returns whether there is such a member */
  setMayWrite(conversationId: string, userId: string, mayWrite: boolean): boolean {
    let isThere = false;
    this.#write(() => {
      isThere = this.#sql.setMayWrite.run(conversationId, userId, mayWrite ? 1 : 0).changes > 0;
    });
    return isThere;
  }

  /**
   * Tells what has changed since a look that ended at `after`, whoever did it; null begins now.
   * `resync` where some of it is not kept any more.
   */
  changes(after: number | null): ChangesPage {
    const foreignVersion = this.#sql.foreignVersion.get()!.data_version;
    // The common case, four times a second: nobody wrote since the last look.
    if (this.#seen && this.#seen.foreignVersion === foreignVersion && this.#seen.last === after) {
      return { changes: [], last: after };
    }
    const seen = this.#database.transaction(() => this.#changesAfter(after)).deferred();
    this.#seen = { foreignVersion, last: seen.last };
    return seen;
  }

  #changesAfter(after: number | null): ChangesPage {
    const end = this.#sql.lastChange.get()?.last ?? 0;
    if (after === null || after === end) return { changes: [], last: end };
    const rows = this.#sql.changesAfter.all(after, changesPerLook);
    const whole = end > after && rows[0]?.changeId === after + 1 && rows.at(-1)!.changeId === end;
    return { changes: whole ? rows.map(toChange) : [{ kind: "resync" }], last: end };
  }

  #write(work: () => void): void {
    this.#database.transaction(work).immediate();
    this.#seen = null;
  }
}

const toEntry = ({ id, mayWrite }: MemberRow): MembershipEntries[number] => [id, { mayWrite: mayWrite === 1 }];

function toChange({ kind, conversationId, userId, at }: ChangeRow): DirectoryChange {
  if (kind === "resync") return { kind };
  return kind === "user_changed" ? { kind, userId } : { kind, conversationId, userId, at };
}
