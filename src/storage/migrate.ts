/** Makes or upgrades the schema of whichever engine a storage URL names. */
import type { ClientTlsFiles } from "../config/client-tls.ts";
import type { Migration } from "./ports.ts";

export interface MigrateOptions {
  /** `storage.url`: `sqlite:<path>` or `postgres://…`. */
  url: string;
  /** PostgreSQL: for what `sslmode` in the URL asks for. */
  tls?: ClientTlsFiles | null;
  /** How long another process's lock is waited for, ms. */
  lockTimeoutMs: number;
}

async function migratePostgres(options: MigrateOptions): Promise<Migration> {
  const { migrate } = await import("./postgres/migrate.ts");
  return migrate(options);
}

/** Migrates by the URL's scheme; each engine is loaded only when it is asked for. */
const engines: Record<string, (options: MigrateOptions) => Promise<Migration>> = {
  async sqlite({ url, lockTimeoutMs: busyTimeoutMs }) {
    const { migrateFile } = await import("./sqlite/migrate.ts");
    return migrateFile({ path: url.slice("sqlite:".length), busyTimeoutMs });
  },
  postgres: migratePostgres,
  postgresql: migratePostgres,
};

/**
 * Brings the schema to this build's version, all of it or nothing.
 * @throws Error where the engine is away, a newer build has written the schema, or a service runs on an old SQLite file; the message is for people
 */
export async function migrateStorage(options: MigrateOptions): Promise<Migration> {
  const scheme = options.url.slice(0, Math.max(0, options.url.indexOf(":")));
  const migrate = Object.hasOwn(engines, scheme) ? engines[scheme] : undefined;
  if (migrate === undefined) throw new Error(`there is no migration for storage of the kind ${JSON.stringify(scheme)}`);
  return migrate(options);
}
