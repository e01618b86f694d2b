/** Runs commands and scripts on Redis, says whether it is there, and lets nothing wait for it for long. */

import type { Cluster, Redis } from "ioredis";
import type { Logger } from "../../telemetry/logger.ts";
import { keepConnecting } from "./connection.ts";

/** A Lua script; it is sent whole only to a server that does not know it yet. */
export interface Script {
  lua: string;
  sha: string;
}

export function script(lua: string): Script {
  return { lua, sha: new Bun.CryptoHasher("sha1").update(lua).digest("hex") };
}

/** Redis did not answer, or not as one who can: what was asked may or may not have been done. */
export class RedisUnavailable extends Error {
  constructor(cause: unknown) {
    super(`Redis is not available: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.name = "RedisUnavailable";
  }
}

export interface CommandsOptions {
  client: Redis | Cluster;
  logger: Pick<Logger, "info" | "warn">;
  /** Messages on their way to Redis; those above are dropped and counted. */
  publishesMax: number;
}

/** What a server says that is there but cannot serve (the last two: a script of ours); anything else is a fault of ours. */
const cannotServe =
  /^(LOADING|CLUSTERDOWN|MASTERDOWN|READONLY|TRYAGAIN|MOVED|ASK|OOM|MISCONF|NOREPLICAS|BUSY|LOST|SETTLING)\b/;

type State = "away" | "ready" | "stopped";

export class Commands {
  readonly isCluster: boolean;
  readonly #readyListeners: (() => void)[] = [];
  #state: State = "away";
  #lastError: Error | null = null;
  #replies = 0;
  readonly #giveUp: () => void;
  #publishing = 0;
  #droppedPublishes = 0;

  constructor(private readonly options: CommandsOptions) {
    const { client, logger } = options;
    this.isCluster = client.isCluster;
    // What is wrong with a connection shows in what it does; ioredis would print it at every try.
    client.on("error", (error) => {
      this.#lastError = error;
    });
    client.on("close", () => this.#noteGone("connection closed"));
    client.on("end", () => this.#noteGone("connection closed"));
    this.#giveUp = keepConnecting(client);
    client.on("ready", () => {
      if (this.#state === "stopped") return;
      this.#state = "ready";
      this.#lastError = null;
      logger.info("Redis is here");
      for (const listener of this.#readyListeners) listener();
    });
  }

  get isReady(): boolean {
    return this.#state === "ready";
  }

  /** Publishes that did not reach Redis. */
  get droppedPublishes(): number {
    return this.#droppedPublishes;
  }

  /** Called each time that Redis is there (again). */
  onReady(listener: () => void): void {
    this.#readyListeners.push(listener);
  }

  /** Begins to connect; resolves once Redis is there. Goes on trying after it has rejected. @throws RedisUnavailable */
  async connect(): Promise<void> {
    const { client } = this.options;
    await new Promise<void>((resolve, reject) => {
      client.once("ready", () => resolve());
      // A reason is told before the end that it leads to.
      const refuse = () => reject(new RedisUnavailable(this.#lastError ?? "connection closed"));
      for (const event of ["close", "end"]) client.once(event, refuse);
      // Where no Sentinel answers, they are asked for ever, and nothing is closed meanwhile.
      client.on("error", (error: Error) => {
        if (error.message.startsWith("All sentinels are unreachable")) refuse();
      });
      // That it resolves says nothing: where a Redis Cluster is found and is not up, it is left open for ever.
      client.connect().catch(refuse);
    });
  }

  stop(): void {
    this.#state = "stopped";
    this.#giveUp();
    this.options.client.disconnect();
  }

  /** @throws RedisUnavailable */
  async call(command: string, ...args: (string | number)[]): Promise<unknown> {
    const { client } = this.options;
    const repliesBefore = this.#replies;
    if (!this.isReady) throw new RedisUnavailable(this.#lastError ?? "away");
    try {
      const reply = await client.call(command, ...args);
      this.#replies++;
      return reply;
    } catch (error) {
      if (error instanceof Error && error.name === "ReplyError") {
        this.#replies++;
        if (!cannotServe.test(error.message)) throw error;
      } else if (String(error).includes("timed out")) {
        this.#noteSilence(repliesBefore);
      }
      throw new RedisUnavailable(error);
    }
  }

  /** @throws RedisUnavailable; what the script itself raises as it is */
  async run({ lua, sha }: Script, keys: string[], args: (string | number)[]): Promise<unknown> {
    try {
      return await this.call("evalsha", sha, keys.length, ...keys, ...args);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return this.call("eval", lua, keys.length, ...keys, ...args);
    }
  }

  /** Never throws, never waits; what Redis cannot take now is dropped and counted. */
  publish(channel: string, text: string): void {
    if (!this.isReady || this.#publishing >= this.options.publishesMax) {
      this.#droppedPublishes++;
      return;
    }
    this.#publishing++;
    this.call(this.isCluster ? "spublish" : "publish", channel, text)
      .catch(() => this.#droppedPublishes++)
      .finally(() => this.#publishing--);
  }

  /** Said once when it goes and once when it is back, however often it is tried in between. */
  #noteGone(reason: string): void {
    if (this.#state !== "ready") return;
    this.#state = "away";
    this.options.logger.warn({ reason }, "Redis is away");
  }

  /** Nothing at all was answered since: the connection is half open, and only a new one will tell. */
  #noteSilence(repliesBefore: number): void {
    // A Redis Cluster's other masters may well answer; its own client watches over each.
    if (this.isCluster || !this.isReady || this.#replies !== repliesBefore) return;
    // Away from now on: the old connection may take seconds to close, and nobody should wait for it meanwhile.
    this.#noteGone("no answer");
    this.options.client.disconnect(true);
  }
}
