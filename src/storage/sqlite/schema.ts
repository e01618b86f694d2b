/** Brings the SQLite file to this build's version, in numbered steps; each one's SQL stands in `schema/`, under its number. */
import type { Database } from "bun:sqlite";
import type { Migration } from "../ports.ts";
import { sqlOf } from "../sql-text.ts";
import tables from "./schema/01-tables.sql" with { type: "text" };
import receiptClaims from "./schema/02-receipt-claims.sql" with { type: "text" };
import log from "./schema/03-log.sql" with { type: "text" };
import keys from "./schema/04-keys.sql" with { type: "text" };
import installation from "./schema/05-installation.sql" with { type: "text" };
import joining from "./schema/06-joining.sql" with { type: "text" };
import epochs from "./schema/07-epochs.sql" with { type: "text" };
import cursors from "./schema/08-cursors.sql" with { type: "text" };
import present from "./schema/09-present.sql" with { type: "text" };
import messages from "./schema/10-messages.sql" with { type: "text" };
import members from "./schema/11-members.sql" with { type: "text" };
import push from "./schema/12-push.sql" with { type: "text" };
import erasures from "./schema/13-erasures.sql" with { type: "text" };
import conversations from "./schema/14-conversations.sql" with { type: "text" };
import receipts from "./schema/15-receipts.sql" with { type: "text" };
import indexes from "./schema/16-indexes.sql" with { type: "text" };
import oneIndex from "./schema/17-one-index.sql" with { type: "text" };
import fresh from "./schema/fresh.sql" with { type: "text" };

/** A step that was released is never edited; a new one is added at the end. */
export const migrations: string[] = [
  tables,
  receiptClaims,
  log,
  keys,
  installation,
  joining,
  epochs,
  cursors,
  present,
  messages,
  members,
  push,
  erasures,
  conversations,
  receipts,
  indexes,
  oneIndex,
].map((file) => sqlOf(file));

/** The version that this build writes and reads. */
export const schemaVersion = migrations.length;

/** @returns the version that the file has; 0 where it is empty */
export const versionOf = (database: Database): number =>
  database.query<{ user_version: number }, []>("PRAGMA user_version").get()!.user_version;

/**
 * Looks whose file it is, before anything of it is changed: what has tables and none of this service's is somebody else's.
 * @throws Error
 */
export function refuseForeign(database: Database): void {
  const { tables, own } = database
    .query<{ tables: number; own: number | null }, []>(
      "SELECT count(*) AS tables, sum(name = 'log_state') AS own FROM sqlite_schema WHERE type = 'table'",
    )
    .get()!;
  if (tables > 0 && own === 0) throw new Error("it has tables, and none of this service's: it is another program's");
}

/**
 * Brings the file to this build's version, all steps in one transaction.
 * @returns from which version to which; equal where there was nothing to do
 * @throws Error where a newer build has written the file: going on would damage what it knows and this one does not
 */
export function migrate(database: Database): Migration {
  if (versionOf(database) === schemaVersion) return { from: schemaVersion, to: schemaVersion };
  return database
    .transaction(() => {
      // Read again under the lock: another process may have migrated meanwhile.
      const found = versionOf(database);
      if (found > schemaVersion) {
        throw new Error(`the database has schema version ${found}, this build knows versions up to ${schemaVersion}`);
      }
      // A new file has nothing that a step would keep, and all of them take five times as long.
      for (const step of found === 0 ? [sqlOf(fresh)] : migrations.slice(found)) database.exec(step);
      database.exec(`PRAGMA user_version = ${schemaVersion}`);
      return { from: found, to: schemaVersion };
    })
    .immediate();
}

/** Finds what the steps have made and the file does not have, after a restore in parts, say: for each a sentence with what puts it back. */
export function missingTriggers(database: Database): string[] {
  const there = database
    .query<{ name: string; sql: string }, []>("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    .all();
  const inLine = (text: string) => text.replace(/\s+/g, " ").trim();
  const found = new Map(there.map(({ name, sql }) => [name, `${inLine(sql)};`]));
  const made = [...migrations.join("\n").matchAll(/CREATE TRIGGER (\w+)[\s\S]*?\bEND;/g)];
  // Of a trigger that a later step has made anew, only that counts.
  const newest = new Map(made.map(([statement, name]) => [name!, inLine(statement)]));
  return [...newest].flatMap(([name, statement]) => {
    const has = found.get(name);
    if (has === statement) return [];
    const [state, cure] =
      has === undefined ? ["is missing", statement] : ["is not this version's", `DROP TRIGGER ${name}; ${statement}`];
    return [`The trigger ${name} of the SQLite file ${state}: what is written goes unnoticed. ${cure}`];
  });
}
