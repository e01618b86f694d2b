/** Copies the storage of the configuration into a file, while the service runs. */
import { loadConfig } from "../config/loader.ts";
import { maskUrl } from "../config/text.ts";
import { ExpectedError } from "../ground/expected-error.ts";
import { backUpStorage, type StorageCopyOptions } from "../storage/backup.ts";
import { type Command, type CommandArgs, type CommandIo, UsageError } from "./command.ts";

export const backup: Command = {
  name: "backup",
  summary: "copy the SQLite file of storage.url, while the service runs",
  usage: "backup <file> [--config <file>]",
  details: `The copy is the storage as it was at one moment, synced to the disk and for its owner alone. Nothing is overwritten. The service goes
on writing meanwhile. It is run as the user of the service, into a folder of that user's. PostgreSQL has pg_dump.`,
  examples: ["backup /var/backups/ws-service/monday.db --config /etc/ws-service/config.yaml"],
  options: {
    config: { summary: "the configuration's file", value: "file" },
  },
  words: "files",
  wordsMax: 1,
  run: (args, io) =>
    withCopy(args, io, async (options) => {
      const { bytes, schemaVersion, position } = await backUpStorage(options);
      return `backed up to ${options.file}: ${bytes} bytes, schema version ${schemaVersion}, the log through position ${position}`;
    }),
};

/** Runs what is done with the storage and the file that the command line names, and says what came of it. @returns the exit code */
export async function withCopy(
  args: CommandArgs,
  io: CommandIo,
  run: (options: StorageCopyOptions) => Promise<string>,
): Promise<number> {
  const [file] = args.words;
  if (file === undefined) throw new UsageError("it needs the file of the copy");
  const { config } = await loadConfig({ file: args.value("config"), env: io.env, cwd: io.cwd, uses: ["storage"] });
  const { url, query_timeout: lockTimeoutMs } = config.storage;
  try {
    io.stdout.write(`${maskUrl(url)}: ${await run({ url, file, lockTimeoutMs })}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof ExpectedError)) throw error;
    io.stderr.write(`${maskUrl(url)}: ${error.message}\n`);
    return 1;
  }
}
