/** Makes or upgrades the schema of the configured storage, and says what it did. */
import { loadConfig } from "../config/loader.ts";
import { maskUrl } from "../config/text.ts";
import { migrateStorage } from "../storage/migrate.ts";
import type { Migration } from "../storage/ports.ts";
import type { Command } from "./command.ts";

export const migrate: Command = {
  name: "migrate",
  summary: "make or upgrade the schema of storage.url",
  usage: "migrate [--config <file>]",
  details: `PostgreSQL needs it before the first start and after an upgrade; SQLite is brought up by the start itself. It goes forward only, all of
it or nothing, and does nothing where there is nothing to do. While a service of an older version has a SQLite file, it is refused.`,
  examples: ["migrate --config /etc/ws-service/config.yaml"],
  options: {
    config: { summary: "the configuration's file", value: "file" },
  },
  async run(args, io) {
    const { config } = await loadConfig({ file: args.value("config"), env: io.env, cwd: io.cwd, uses: ["storage"] });
    const { url, tls, query_timeout: lockTimeoutMs } = config.storage;
    const where = maskUrl(url);
    try {
      io.stdout.write(`${where}: ${outcome(await migrateStorage({ url, tls, lockTimeoutMs }))}\n`);
      return 0;
    } catch (error) {
      io.stderr.write(`${where}: not migrated: ${error instanceof Error ? error.message : error}\n`);
      return 1;
    }
  },
};

function outcome({ from, to }: Migration): string {
  if (from === to) return `schema is at version ${to} already`;
  return from === 0 ? `schema made, version ${to}` : `schema upgraded from version ${from} to ${to}`;
}
