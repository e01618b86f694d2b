/** Says when this process may not open as many files as it takes connections, and when it has run out of them. */
import { closeSync, openSync } from "node:fs";
import type { Config } from "../config/schema.ts";
import { openFilesMax } from "../ground/open-files.ts";
import type { Logger } from "../telemetry/logger.ts";
import { Outage } from "../telemetry/outage.ts";

export interface DescriptorsOptions {
  config: Pick<Config, "websocket" | "storage">;
  /** How many are connected. */
  connections: () => number;
  logger: Pick<Logger, "info" | "warn" | "error">;
}

/** Besides sockets and the storage's connections: files, the cluster, the listeners, whoever is being refused. */
const spare = 200;
const periodMs = 1_000;
/** One that was closed is soon taken again: it is over once there was one so many times in a row. */
const timesFree = 2;

export class Descriptors {
  readonly #limit = openFilesMax();
  #timer: Timer | null = null;
  #free = 0;
  readonly #outage: Outage;

  constructor(private readonly options: DescriptorsOptions) {
    this.#outage = new Outage({
      level: "error",
      gone: "out of file descriptors: who connects has to wait",
      back: "file descriptors are free again",
      logger: options.logger,
    });
  }

  start(): void {
    const { config, logger } = this.options;
    const needed = config.websocket.max_connections + config.storage.pool_size + spare;
    if (this.#limit !== null && this.#limit < needed) {
      logger.warn(
        { limit: this.#limit, needed },
        "fewer files may be open than websocket.max_connections needs: raise ulimit -n, or lower the setting",
      );
    }
    this.#timer = setInterval(() => this.#look(), periodMs);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** The platform lets whoever connects wait without a word then, so that it has to be tried. */
  #look(): void {
    const connections = this.options.connections();
    try {
      closeSync(openSync("/dev/null", "r"));
      if (++this.#free >= timesFree) this.#outage.ended({ connections });
    } catch (err) {
      const { code } = err as NodeJS.ErrnoException;
      if (code !== "EMFILE" && code !== "ENFILE") return;
      this.#free = 0;
      // Of the whole machine (ENFILE) or of this process.
      this.#outage.began(err, { limit: code === "EMFILE" ? this.#limit : null, connections });
    }
  }
}
