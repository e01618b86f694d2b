/** Makes and upgrades the schema, in numbered steps that run once however many nodes begin them. */
import type { ClientTlsFiles } from "../../config/client-tls.ts";
import { Unavailable } from "../../ground/unavailable.ts";
import type { Migration } from "../ports.ts";
import { closeConnection, openConnection } from "./connection.ts";
import { eventsByPosition, schemaVersion, steps } from "./schema.ts";

export const defaultSchema = "ws";

/** Lets through a name that goes into SQL as it is. @throws Error where that would not be one plain identifier */
export function checkSchemaName(schema: string): string {
  if (/^[a-z_][a-z0-9_]{0,47}$/.test(schema)) return schema;
  throw new Error(`a schema's name is of lower-case letters, digits and underscores, unlike ${JSON.stringify(schema)}`);
}

/**
 * Reads the version; 0 where there is none. Run by whatever asks one statement.
 * @throws Unavailable where the table does not tell it
 */
export async function readVersion(
  query: (text: string) => Promise<readonly object[]>,
  schema: string,
): Promise<number> {
  const [found] = (await query(`SELECT to_regclass('${schema}.schema_version') IS NOT NULL AS there`)) as [
    { there: boolean },
  ];
  if (!found.there) return 0;
  const [row] = (await query(`SELECT version FROM ${schema}.schema_version`)) as { version: number }[];
  if (row !== undefined && row.version > 0) return row.version;
  // Making the schema again would fail on what is there, and guessing a version could ruin it.
  throw new Unavailable(
    "storage",
    `The table ${schema}.schema_version ${row === undefined ? "is empty" : `has version ${row.version}`}, which no build has written. Put back its one row with the version of the schema, or restore a backup.`,
  );
}

/** Says why this build cannot run on a schema of that version, and what to do; null where it can. */
export function versionRefusal(found: number, schema: string): string | null {
  if (found === schemaVersion) return null;
  if (found === 0)
    return `The database has no tables of ws-service in a schema "${schema}" yet. Run: ws-service migrate`;
  return found < schemaVersion
    ? `The schema "${schema}" has version ${found}, this build needs ${schemaVersion}. Run: ws-service migrate`
    : `The schema "${schema}" has version ${found}, this build knows versions up to ${schemaVersion}. Run a newer build of ws-service: its own "ws-service migrate" has made this schema.`;
}

export interface MigrateOptions {
  url: string;
  tls?: ClientTlsFiles | null;
  /** Default `ws`. */
  schema?: string;
  /** How long another migration, or whoever else holds a lock on a table, is waited for. */
  lockTimeoutMs: number;
}

/**
 * Brings the schema to this build's version, all steps in one transaction; many may do it at once.
 * @throws Error where the engine is away, others hold what it needs for too long, or a newer build has written the schema
 */
export async function migrate(options: MigrateOptions): Promise<Migration> {
  try {
    return await runSteps(options);
  } catch (error) {
    if ((error as { code?: unknown }).code !== lockNotAvailable) throw error;
    const open = await openTransactions(options).catch(() => "none that can be seen");
    throw new Error(`${(error as Error).message}. Open transactions in the database: ${open}`, { cause: error });
  }
}

const lockNotAvailable = "55P03";

/** Lists the transactions that may have kept it waiting; any role may see these. */
async function openTransactions({ url, tls = null, lockTimeoutMs }: MigrateOptions): Promise<string> {
  const { sql } = openConnection({ url, tls, connectTimeoutMs: lockTimeoutMs, statementTimeoutMs: lockTimeoutMs });
  try {
    const [row] = await sql.unsafe<{ open: string | null }[]>(
      `SELECT string_agg(format('%s (%s, role %s)', pid, coalesce(nullif(application_name, ''), 'unnamed'), usename), ', ' ORDER BY pid) AS open
       FROM pg_stat_activity WHERE pid IN (SELECT l.pid FROM pg_locks AS l
         WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
           AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))`,
    );
    return row!.open ?? "none any more";
  } finally {
    await closeConnection(sql);
  }
}

async function runSteps({
  url,
  tls = null,
  schema = defaultSchema,
  lockTimeoutMs,
}: MigrateOptions): Promise<Migration> {
  const ws = checkSchemaName(schema);
  await indexOnline({ url, tls, ws, lockTimeoutMs });
  const { sql, ready } = openConnection({ url, tls, connectTimeoutMs: lockTimeoutMs, statementTimeoutMs: 0 });
  try {
    await ready;
    return await sql.begin(async (transaction) => {
      const query = (text: string) => transaction.unsafe(text);
      await query(`SET LOCAL lock_timeout = ${Math.max(1, Math.round(lockTimeoutMs))}`);
      await query(`SELECT pg_advisory_xact_lock(hashtext('ws-service migration'), hashtext('${ws}'))`);
      const from = await readVersion(query, ws);
      if (from > schemaVersion) throw new Error(versionRefusal(from, ws)!);
      if (from === schemaVersion) return { from, to: from };
      if (from === 0) {
        // Somebody else may have made it, for a role that may not.
        const [found] = await query(`SELECT to_regnamespace('${ws}') IS NOT NULL AS there`);
        if (!found!.there) await query(`CREATE SCHEMA ${ws}`);
        await query(`CREATE TABLE ${ws}.schema_version (version integer NOT NULL);
          INSERT INTO ${ws}.schema_version VALUES (0)`);
      }
      for (const step of steps.slice(from)) await query(step(ws));
      await query(`UPDATE ${ws}.schema_version SET version = ${schemaVersion}`);
      return { from, to: schemaVersion };
    });
  } finally {
    await closeConnection(sql);
  }
}

/** So long until it is looked again whether another migration has made the index, ms. */
const indexPollMs = 100;

/**
 * Makes the one index that the steps would take long over, while the service of before goes on. What waits for it holds no
 * snapshot meanwhile, for the index would wait for that.
 */
async function indexOnline({ url, tls, ws, lockTimeoutMs }: Omit<MigrateOptions, "schema"> & { ws: string }) {
  const { sql, ready } = openConnection({ url, tls, connectTimeoutMs: lockTimeoutMs, statementTimeoutMs: 0 });
  const index = `${ws}.${eventsByPosition}`;
  try {
    await ready;
    await sql.unsafe(`SET lock_timeout = ${Math.max(1, Math.round(lockTimeoutMs))}`);
    for (let waitedMs = 0; waitedMs <= lockTimeoutMs; waitedMs += indexPollMs) {
      const [found] = await sql.unsafe<{ needed: boolean; broken: boolean }[]>(
        `SELECT to_regclass('${ws}.log_state') IS NOT NULL AND NOT coalesce(i.indisvalid, false) AS needed,
          coalesce(NOT i.indisvalid, false) AS broken
        FROM (SELECT) AS once LEFT JOIN pg_index AS i ON i.indexrelid = to_regclass('${index}')`,
      );
      if (!found!.needed) return;
      const [turn] = await sql.unsafe<{ had: boolean }[]>(
        `SELECT pg_try_advisory_lock(hashtext('ws-service index'), hashtext('${ws}')) AS had`,
      );
      if (turn!.had) {
        // Left by a migration that was ended in the middle.
        if (found!.broken) await sql.unsafe(`DROP INDEX CONCURRENTLY IF EXISTS ${index}`);
        await sql.unsafe(
          `CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ${eventsByPosition} ON ${ws}.events (position)`,
        );
        return;
      }
      await Bun.sleep(indexPollMs);
    }
    throw new Error(`another migration has not made the index ${index} in time`);
  } finally {
    await closeConnection(sql);
  }
}
