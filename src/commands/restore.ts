/** Puts a copy that `backup` has made in the place of the storage of the configuration, while no service runs. */
import { restoreStorage } from "../storage/backup.ts";
import { withCopy } from "./backup.ts";
import type { Command } from "./command.ts";

export const restore: Command = {
  name: "restore",
  summary: "put a backup in the place of the SQLite file of storage.url, while the service is stopped",
  usage: "restore <file> [--config <file>]",
  details: `The former file is kept beside it, under a name with the time. A copy that is damaged, of a newer version, or none of this service's is
refused, and so is a restore while a service has the file, or by another user than the service's. Clients that have seen more than the copy has are told to load anew.`,
  examples: ["restore /var/backups/ws-service/monday.db --config /etc/ws-service/config.yaml"],
  options: {
    config: { summary: "the configuration's file", value: "file" },
  },
  words: "files",
  wordsMax: 1,
  run: (args, io) =>
    withCopy(args, io, async (options) => {
      const { kept, schemaVersion, position } = await restoreStorage(options);
      const former = kept === null ? "there was none before" : `the former one is kept as ${kept}`;
      return `restored from ${options.file}: schema version ${schemaVersion}, the log through position ${position}; ${former}`;
    }),
};
