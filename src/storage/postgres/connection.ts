/** Opens connections to PostgreSQL, and says what their errors mean. */
import postgres from "postgres";
import { type ClientTls, type ClientTlsFiles, readClientTls } from "../../config/client-tls.ts";
import { sslModeOf } from "../../config/postgres-url.ts";
import { Unavailable } from "../../ground/unavailable.ts";

export type Sql = postgres.Sql<{ bigint: number }>;
export type Parameter = string | number | boolean | null;

export interface ConnectionEvents {
  onClosed?: (() => void) | undefined;
  onNotification?: ((payload: string) => void) | undefined;
}

export interface ConnectionOptions extends ConnectionEvents {
  /** `postgres://user:password@host:port/database?sslmode=…` */
  url: string;
  /** Null or left out: whom the system trusts, and no certificate of our own. */
  tls?: ClientTlsFiles | null;
  /** How long connecting may take. */
  connectTimeoutMs: number;
  /** After so long the server itself ends a statement; 0: never. */
  statementTimeoutMs: number;
}

export interface PostgresConnection {
  sql: Sql;
  /** Resolves once its session is set as it has to be; nothing is asked before. Rejects where it cannot be had. */
  ready: Promise<void>;
  /** Comes before each statement; rejects where it must not be asked here. */
  settle?: () => Promise<void> | undefined;
}

/** Opens one connection at once. Once it has closed, or was not to be had, it is not used again. */
export function openConnection(options: ConnectionOptions): PostgresConnection {
  const { url, tls = null, connectTimeoutMs, statementTimeoutMs, onClosed, onNotification } = options;
  // Not in the startup message: poolers refuse one that names settings they do not know.
  const session = `SET statement_timeout = ${statementTimeoutMs};
    -- An append must see what was committed while it waited for the lock, whatever the database has as its default.
    SET default_transaction_isolation = 'read committed';
    -- A plan that was made while a table was small is kept when it has grown: where there is an index it is to be taken from the start.
    SET enable_seqscan = off;
    -- Compiling takes longer than any of these statements.
    SET jit = off`;
  const settings: postgres.Options<{ bigint: postgres.PostgresType<number> }> = {
    max: 1,
    max_lifetime: null,
    // Arrays are sent as text, so that types need not be asked for with each connection.
    fetch_types: false,
    connect_timeout: connectTimeoutMs / 1_000,
    ssl: encryptionOf(url, tls),
    onnotice: () => {},
    onclose: () => onClosed?.(),
    types: { bigint: { to: 20, from: [20], parse: Number, serialize: String } },
    connection: { application_name: "ws-service" },
  };
  const listening = { onnotify: (_channel: string, payload: string) => onNotification?.(payload) };
  const sql = postgres(url, { ...settings, ...listening }) as unknown as Sql;
  const ready = sql.unsafe(session).then(
    () => {},
    // Nothing was asked yet: what the server does not like is in the URL, or in what the role or the database has as its default.
    (error: Error) => {
      if (failureOf(error) !== "fault") throw error;
      throw new Unavailable("storage", `PostgreSQL: ${error.message}`, { cause: error });
    },
  );
  // Told to whoever asks first.
  ready.catch(() => {});
  return { sql, ready };
}

/** Encrypts as the URL's `sslmode` says; files are read anew for each connection, so that they may be replaced. */
function encryptionOf(url: string, files: ClientTlsFiles | null): object | false {
  const mode = sslModeOf(url, { hasTls: files !== null });
  if (mode === "disable") return false;
  let texts: ClientTls;
  try {
    texts = files === null ? {} : readClientTls(files);
  } catch (error) {
    throw new Unavailable("storage", (error as Error).message, { setting: "storage.tls", cause: error });
  }
  switch (mode) {
    case "verify-full":
      return texts;
    case "require":
      // As PostgreSQL's own clients have it: who names an authority wants it looked at.
      if (texts.ca === undefined) return { ...texts, rejectUnauthorized: false };
      return { ...texts, checkServerIdentity: () => undefined };
    case "verify-ca":
      return { ...texts, checkServerIdentity: () => undefined };
  }
}

/** Closes it, politely where it is idle; resolves within a second. */
export async function closeConnection(sql: Sql): Promise<void> {
  await sql.end({ timeout: 1 }).catch(() => {});
}

/** Closes it at once, whatever is under way. */
export function dropConnection(sql: Sql): void {
  sql.end({ timeout: 0 }).catch(() => {});
}

/** Waits before the next attempt to connect, ms: 100, 200, 400, 800, then 1,000. */
export const backoffMs = (failures: number) => Math.min(1_000, 100 * 2 ** failures);

const sqlState = /^(\d|F0|HV|P0|XX)[0-9A-Z]{3,4}$/;
// Lost, refused, shutting down, or a standby that was the primary before.
const brokenStates = /^(08|28|3D|57P|25006)/;
// Conflicts, exhausted resources, locks, cancelled statements, failures of the disk, damaged pages, and what an operator
// has to put right: rights, tables or functions that are missing, triggers of its own. The connection itself is sound.
const passingStates = /^(40|53|55|57014|58|XX|P0|3F|42501|42P01|42703|42883)/;
// Of the client, about what it was asked.
const clientFaults = /^(UNDEFINED_VALUE|NOT_TAGGED_CALL|MAX_PARAMETERS_EXCEEDED|UNSAFE_TRANSACTION)$/;

/** Says what an error means: a fault of ours, a refusal that passes, or a connection that must be thrown away. */
export function failureOf(error: unknown): "fault" | "passing" | "broken" {
  if (error instanceof Unavailable) return "broken";
  // By code, not by class: names do not survive a minified build.
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code !== "string" || clientFaults.test(code)) return "fault";
  if (!sqlState.test(code) || code.length !== 5) return "broken";
  if (brokenStates.test(code)) return "broken";
  return passingStates.test(code) ? "passing" : "fault";
}

/** Turns an error into what callers are given: `Unavailable` unless it is a fault of ours. */
export function asUnavailable(error: unknown): unknown {
  if (error instanceof Unavailable || failureOf(error) === "fault") return error;
  const { message, code } = error as { message: string; code: string };
  return new Unavailable("storage", `PostgreSQL: ${message}`, { code, cause: error });
}

/** Matches what JSON escapes in ways of its own. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones that are meant.
const control = /[\u0000-\u001f]/;

/** Writes an array literal, for a parameter of any array type. */
export function arrayOf(values: readonly (string | number | null)[]): string {
  const elements = values.map((value) => {
    if (value === null) return "NULL";
    if (typeof value === "number") return value;
    // Payloads are full of quotes. JSON escapes them just so, seven times as fast, and nothing else in such texts.
    if (value.isWellFormed() && !control.test(value)) return JSON.stringify(value);
    return `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  });
  return `{${elements.join(",")}}`;
}
