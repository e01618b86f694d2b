/** Keeps the directory in PostgreSQL: in tables of its own, or views over those of the application [PUB3]. */

import { BeingErased, type Directory, DirectoryReadOnly, type Memberships } from "../directory-store.ts";
import { arrayOf, type Parameter } from "./connection.ts";
import type { DirectoryWatch } from "./directory-watch.ts";
import { createMemberCounts, createMembershipQuestion } from "./memberships.ts";
import type { Pool } from "./pool.ts";
import { directoryChannel } from "./schema.ts";
import { createUserStates } from "./user-states.ts";
import { tryView } from "./view-check.ts";

/** Views over the application's tables, as `schema.name`; null: a table of this service's own. */
export interface DirectoryNames {
  /** With the columns `user_id` and `disabled`. */
  users: string | null;
  /** With the columns `conversation_id` and `user_id`, and `joined_at` and `may_write` if it has those. */
  members: string | null;
  /** With the columns `conversation_id` and `retention`. */
  conversations?: string | null;
}

export interface DirectoryOptions {
  pool: Pool;
  schema: string;
  names: DirectoryNames;
  watch: DirectoryWatch;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** Quotes a name: `app.ws_users` → `"app"."ws_users"`. @throws Error where it is no such name */
export function quoted(name: string): string {
  if (/^[A-Za-z_]\w{0,62}\.[A-Za-z_]\w{0,62}$/.test(name)) return `"${name.replace(".", '"."')}"`;
  throw new Error(`a table or view of the directory is named schema.name, unlike ${JSON.stringify(name)}`);
}

// Ids are compared as whatever the view has them (text, uuid, bigint), so that the application's own indexes serve.
function statements(ws: string, names: DirectoryNames, { saysWhoMayWrite }: { saysWhoMayWrite: boolean }) {
  const users = names.users === null ? `${ws}.users` : quoted(names.users);
  const members = names.members === null ? `${ws}.members` : quoted(names.members);
  /** An empty list of ids as the column has them: a list of texts that is joined to it becomes one of such ids. */
  const idsOf = (column: string, table = members) => `ARRAY(SELECT ${column} FROM ${table} LIMIT 0)`;
  const mayWrite = `${saysWhoMayWrite ? "coalesce(may_write, true)" : "true"} AS "mayWrite"`;
  const isBlockedAs = (
    id: string,
  ) => `(EXISTS (SELECT 1 FROM ${ws}.blocks AS b WHERE b.user_id = ${id} AND b.ends_at > $3)
    OR EXISTS (SELECT 1 FROM ${ws}.erasures AS e WHERE e.user_id = ${id}))`;
  const isBlocked = isBlockedAs("$2");
  const blockedUntil = `(SELECT ends_at::float8 FROM ${ws}.blocks WHERE user_id = $2 AND ends_at > $3) AS "blockedUntil"`;
  return {
    checkUsers: `SELECT user_id::text, disabled::boolean FROM ${users} LIMIT 0`,
    checkMembers: `SELECT conversation_id::text, user_id::text FROM ${members} LIMIT 0`,
    findMayWrite: `SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
      WHERE attrelid = '${members}'::regclass AND attname = 'may_write' AND NOT attisdropped) AS found`,
    // Of another type than boolean there would be values that say neither.
    checkMayWrite: `SELECT may_write = true FROM ${members} LIMIT 0`,
    // The id twice: the view may have it as another type.
    user: `SELECT true AS known, coalesce(disabled::boolean, false) OR ${isBlocked} AS disabled
      FROM ${users} WHERE user_id = $1
      UNION ALL SELECT false, true WHERE ${isBlocked}`,
    users: `SELECT u.disabled, ${isBlockedAs("asked.id")} AS "isBlocked"
      FROM unnest(${idsOf("user_id", users)} || $1, $2::text[]) WITH ORDINALITY AS asked (member, id, n)
      LEFT JOIN LATERAL (SELECT coalesce(disabled::boolean, false) AS disabled FROM ${users}
        WHERE user_id = asked.member LIMIT 1) AS u ON true ORDER BY asked.n`,
    stranger: `SELECT false AS known, true AS disabled WHERE $1::text IS NOT NULL AND ${isBlocked}`,
    // A view may name somebody twice.
    standing: `SELECT (SELECT bool_or(coalesce(disabled::boolean, false)) FROM ${users} WHERE user_id = $1) AS disabled, ${blockedUntil}`,
    standingOfStranger: `SELECT NULL::boolean AS disabled, ${blockedUntil} WHERE $1::text IS NOT NULL`,
    // Removes those that have ended as well.
    block: `WITH ended AS (DELETE FROM ${ws}.blocks WHERE ends_at <= $3 AND user_id <> $1)
      INSERT INTO ${ws}.blocks (user_id, ends_at) VALUES ($1, $2)
      ON CONFLICT (user_id) DO UPDATE SET ends_at = excluded.ends_at`,
    recheck: "SELECT pg_notify($1, $2)",
    membershipsAmong: `SELECT conversation_id::text AS id, ${mayWrite} FROM ${members}
      WHERE user_id = $1 AND conversation_id = ANY ($2)`,
    membersAmong: `SELECT user_id::text AS id, ${mayWrite} FROM ${members}
      WHERE conversation_id = $1 AND user_id = ANY ($2)`,
    // Limited, so that each is looked up in the application's index, whatever is known of how many there are.
    membershipsOfMany: `SELECT asked.n AS asked, m.id, m."mayWrite"
      FROM unnest(${idsOf("user_id")} || $1, ${idsOf("conversation_id")} || $2, $3::bigint[]) AS asked (member, conversation, n)
      CROSS JOIN LATERAL (SELECT conversation_id::text AS id, ${mayWrite} FROM ${members}
        WHERE user_id = asked.member AND conversation_id = asked.conversation LIMIT 1) AS m`,
    // Slower, for a list in which some cannot be ids of that column: the others still count.
    membershipsAmongAsText: `SELECT conversation_id::text AS id, ${mayWrite} FROM ${members}
      WHERE user_id = $1 AND conversation_id::text = ANY ($2::text[])`,
    membersAmongAsText: `SELECT user_id::text AS id, ${mayWrite} FROM ${members}
      WHERE conversation_id = $1 AND user_id::text = ANY ($2::text[])`,
    firstMembers: `SELECT user_id::text AS "userId", ${mayWrite} FROM ${members} AS m
      WHERE m.conversation_id = $1 ORDER BY m.user_id LIMIT $2`,
    membersAfter: `SELECT user_id::text AS "userId", ${mayWrite} FROM ${members} AS m
      WHERE m.conversation_id = $1 AND m.user_id > $3 ORDER BY m.user_id LIMIT $2`,
    membersOf: `SELECT user_id::text AS id FROM ${members} WHERE conversation_id = $1 LIMIT $2`,
    membersOfEach: `SELECT asked.id::text AS "conversationId", m.id FROM unnest(${idsOf("conversation_id")} || $1) AS asked (id)
      CROSS JOIN LATERAL (SELECT user_id::text AS id FROM ${members} WHERE conversation_id = asked.id LIMIT $2) AS m`,
    // Slower, for a list in which some cannot be ids of that column.
    membersOfEachAsText: `SELECT asked.id AS "conversationId", m.id FROM unnest($1::text[]) AS asked (id)
      CROSS JOIN LATERAL (SELECT user_id::text AS id FROM ${members} WHERE conversation_id::text = asked.id LIMIT $2) AS m`,
    memberCounts: `SELECT asked.id::text AS "conversationId", m.count FROM unnest(${idsOf("conversation_id")} || $1) AS asked (id)
      CROSS JOIN LATERAL (SELECT count(*) AS count FROM (
        SELECT FROM ${members} WHERE conversation_id = asked.id LIMIT $2) AS found) AS m`,
    // Slower, for a list in which some cannot be ids of that column.
    memberCountsAsText: `SELECT asked.id AS "conversationId", m.count FROM unnest($1::text[]) AS asked (id)
      CROSS JOIN LATERAL (SELECT count(*) AS count FROM (
        SELECT FROM ${members} WHERE conversation_id::text = asked.id LIMIT $2) AS found) AS m`,
    conversationsOf: `SELECT conversation_id::text AS id FROM ${members} WHERE user_id = $1`,
    peersOf: `SELECT DISTINCT theirs.user_id::text AS id
      FROM ${members} AS mine JOIN ${members} AS theirs USING (conversation_id)
      WHERE mine.user_id = $1 AND theirs.user_id <> $1 LIMIT $2`,
    sharingWith: `SELECT DISTINCT theirs.user_id::text AS id
      FROM ${members} AS mine JOIN ${members} AS theirs USING (conversation_id)
      WHERE mine.user_id = $1 AND theirs.user_id = ANY ($2)`,
    sharingWithAsText: `SELECT DISTINCT theirs.user_id::text AS id
      FROM ${members} AS mine JOIN ${members} AS theirs USING (conversation_id)
      WHERE mine.user_id = $1 AND theirs.user_id::text = ANY ($2::text[])`,
    // In one order everywhere, so that two nodes cannot wait for each other.
    upsertUsers: `INSERT INTO ${ws}.users (user_id) SELECT DISTINCT id FROM unnest($1::text[]) AS given (id)
      ORDER BY id ON CONFLICT DO NOTHING`,
    setDisabled: `INSERT INTO ${ws}.users AS u (user_id, disabled) VALUES ($1, $2)
      ON CONFLICT (user_id) DO UPDATE SET disabled = excluded.disabled WHERE u.disabled <> excluded.disabled`,
    addMembers: `INSERT INTO ${ws}.members (conversation_id, user_id)
      SELECT DISTINCT $1, id FROM unnest($2::text[]) AS given (id) ORDER BY id ON CONFLICT DO NOTHING`,
    addMemberships: `INSERT INTO ${ws}.members (conversation_id, user_id)
      SELECT DISTINCT id, $1 FROM unnest($2::text[]) AS given (id) ORDER BY id ON CONFLICT DO NOTHING`,
    removeMembers: `WITH gone AS (
        SELECT conversation_id, user_id FROM ${ws}.members WHERE conversation_id = $1 AND user_id = ANY ($2::text[])
        ORDER BY user_id FOR UPDATE)
      DELETE FROM ${ws}.members AS m USING gone AS g
      WHERE m.conversation_id = g.conversation_id AND m.user_id = g.user_id`,
    setMayWrite: `UPDATE ${ws}.members SET may_write = $3 WHERE conversation_id = $1 AND user_id = $2 RETURNING true AS found`,
  };
}

/** Matches the code for a column that is a uuid or a number where a text is none: nobody has that id. */
export const notAnId = /^22(P02|003)$/;

/** The state that the schema gives what is refused of users who are being erased. */
const beingErased = "WS002";

type Statements = ReturnType<typeof statements>;

/** Builds the port, and a check of the views. @throws StartError where one is missing or lacks a column */
export function createDirectory(options: DirectoryOptions): Directory & { check(): Promise<void> } {
  // Of a view it is known once it is checked; a table of ours has all its columns.
  const sql = statements(options.schema, options.names, { saysWhoMayWrite: options.names.members === null });
  return { ...createQuestions(options, sql), ...createChanges(options, sql), ...createViewCheck(options, sql) };
}

type Questions = Pick<
  Directory,
  | "userState"
  | "standingOf"
  | "membershipsAmong"
  | "membersAmong"
  | "membersPage"
  | "membersOf"
  | "membersOfEach"
  | "memberCounts"
  | "conversationsOf"
  | "peersOf"
  | "sharingWith"
>;

/** Asks; where an id cannot be one of its column nobody has it, or it is asked otherwise. */
function createFind(pool: Pool) {
  return async <Row extends object>(
    text: string,
    parameters: Parameter[],
    otherwise: () => Promise<Row[]> = async () => [],
  ): Promise<Row[]> => {
    try {
      return await pool.query<Row>(text, parameters);
    } catch (error) {
      if (notAnId.test(String((error as { code?: unknown }).code))) return otherwise();
      throw error;
    }
  };
}

function createQuestions({ pool, now }: DirectoryOptions, sql: Statements): Questions {
  const find = createFind(pool);

  async function ids(text: string, parameters: Parameter[]): Promise<string[]> {
    return (await find<{ id: string }>(text, parameters)).map(({ id }) => id);
  }

  /** Finds those of a list that belong to one id. */
  async function among<Row extends { id: string }>(
    id: string,
    list: string[],
    { text, asText }: { text: string; asText: string },
  ): Promise<Row[]> {
    if (list.length === 0) return [];
    const parameters = [id, arrayOf(list)];
    return find<Row>(text, parameters, () => find(asText, parameters));
  }

  async function memberships(...asked: Parameters<typeof among>): Promise<Memberships> {
    const rows = await among<{ id: string; mayWrite: boolean }>(...asked);
    return new Map(rows.map(({ id, mayWrite }) => [id, { mayWrite }]));
  }

  return {
    userState: createUserStates({ pool, now }, find, sql),
    async standingOf(userId) {
      const asked = [userId, userId, now()];
      const [row] = await find<{ disabled: boolean | null; blockedUntil: number | null }>(sql.standing, asked, () =>
        pool.query(sql.standingOfStranger, asked),
      );
      const { disabled, blockedUntil } = row!;
      return { state: disabled === null ? "unknown" : disabled ? "disabled" : "active", blockedUntil };
    },
    membershipsAmong: createMembershipQuestion(find, sql),
    membersAmong: (conversationId, userIds) =>
      memberships(conversationId, userIds, { text: sql.membersAmong, asText: sql.membersAmongAsText }),
    membersPage: ({ conversationId, after, limit }) =>
      after === undefined
        ? find(sql.firstMembers, [conversationId, limit])
        : find(sql.membersAfter, [conversationId, limit, after]),
    membersOf: (conversationId, limit) => ids(sql.membersOf, [conversationId, limit ?? null]),
    async membersOfEach(conversationIds, limit) {
      type Row = { conversationId: string; id: string };
      const parameters = [arrayOf(conversationIds), limit];
      const rows = await find<Row>(sql.membersOfEach, parameters, () => find(sql.membersOfEachAsText, parameters));
      const found = new Map<string, string[]>();
      for (const { conversationId, id } of rows) {
        const members = found.get(conversationId);
        if (members === undefined) found.set(conversationId, [id]);
        else members.push(id);
      }
      return found;
    },
    memberCounts: createMemberCounts(find, sql),
    conversationsOf: (userId) => ids(sql.conversationsOf, [userId]),
    peersOf: (userId, limit) => ids(sql.peersOf, [userId, limit]),
    async sharingWith(userId, userIds) {
      const rows = await among(userId, userIds, { text: sql.sharingWith, asText: sql.sharingWithAsText });
      return new Set([...rows.map(({ id }) => id), ...(userIds.includes(userId) ? [userId] : [])]);
    },
  };
}

type Changes = Omit<Directory, keyof Questions>;

function createChanges({ pool, schema, names, watch, now }: DirectoryOptions, sql: Statements): Changes {
  /** Writes, and resolves once the nodes' listeners are told, this one's own included. */
  async function write<Row extends object>(
    kind: "users" | "members",
    text: string,
    parameters: Parameter[],
  ): Promise<Row[]> {
    const view = names[kind];
    if (view !== null) {
      throw new DirectoryReadOnly(`directory.${kind} names ${view}, which the application alone writes to.`);
    }
    const rows = await pool.query<Row>(text, parameters).catch((error: { code?: unknown }) => {
      throw error.code === beingErased ? new BeingErased({ cause: error }) : error;
    });
    await watch.caughtUp();
    return rows;
  }

  return {
    upsertUsers: async (userIds) => void (await write("users", sql.upsertUsers, [arrayOf(userIds)])),
    setDisabled: async (userId, disabled) => void (await write("users", sql.setDisabled, [userId, disabled])),
    async block(userId, untilMs) {
      await pool.query(sql.block, [userId, Math.ceil(untilMs), now()]);
    },
    async recheck(userId) {
      await pool.query(sql.recheck, [
        directoryChannel(schema),
        JSON.stringify({ op: "user_changed", user_id: userId }),
      ]);
    },
    addMembers: async (conversationId, userIds) =>
      void (await write("members", sql.addMembers, [conversationId, arrayOf(userIds)])),
    addMemberships: async (userId, conversationIds) =>
      void (await write("members", sql.addMemberships, [userId, arrayOf(conversationIds)])),
    removeMembers: async (conversationId, userIds) =>
      void (await write("members", sql.removeMembers, [conversationId, arrayOf(userIds)])),
    setMayWrite: async ({ conversationId, userId }, mayWrite) =>
      (await write("members", sql.setMayWrite, [conversationId, userId, mayWrite])).length > 0,
    watch: (listener) => watch.add(listener),
  };
}

function createViewCheck({ pool, schema, names }: DirectoryOptions, sql: Statements) {
  async function checkView(kind: "users" | "members", text: string): Promise<void> {
    const name = names[kind];
    if (name !== null) await tryView(pool, { kind, name }, text);
  }

  return {
    async check() {
      await checkView("users", sql.checkUsers);
      await checkView("members", sql.checkMembers);
      if (names.members === null) return;
      const [row] = await pool.query<{ found: boolean }>(sql.findMayWrite);
      const saysWhoMayWrite = row!.found;
      if (saysWhoMayWrite) await checkView("members", sql.checkMayWrite);
      Object.assign(sql, statements(schema, names, { saysWhoMayWrite }));
    },
  };
}
