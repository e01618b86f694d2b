/** Says in the log what the storage does not do as it should, once when it begins and once when it is over. */
import type { Logger } from "./logger.ts";
import { Outage } from "./outage.ts";

/** @param wanted connections to PostgreSQL that this node wants */
export function createStorageLog(logger: Logger, { wanted }: { wanted: number }) {
  const failing = (gone: string, back: string) => new Outage({ level: "error", gone, back, logger });
  return {
    writes: failing("the storage refuses writes", "the storage takes writes again"),
    reads: failing("the storage answers no reads", "the storage answers reads again"),
    hearing: failing(
      "changes of the directory are not heard at once",
      "changes of the directory are heard at once again",
    ),
    filling: new Outage({
      level: "warn",
      gone: "PostgreSQL gives fewer connections than this node wants",
      back: "PostgreSQL gives connections again",
      details: { wanted },
      logger,
    }),
    onListenerError: (err: unknown) => logger.error({ err }, "a change of the directory was not followed"),
    onNotice: (fault: string) => logger.warn({ fault }, "the storage lacks something"),
    onStalled: (sessions: number) =>
      logger.warn({ sessions }, "sessions that stood still in the middle of an append were ended: cursors go on"),
    onOpenFolder: (folder: string) =>
      logger.warn(
        { folder },
        "others of this machine may look into the folder of the storage: chmod 700 keeps them out",
      ),
  };
}
