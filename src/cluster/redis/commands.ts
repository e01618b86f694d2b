/** Runs commands and scripts on Redis, says whether it is there, and lets nothing wait for it for long. */

import type { Cluster, Redis } from "ioredis";
import type { Logger } from "../../telemetry/logger.ts";
import { Outage } from "../../telemetry/outage.ts";
import { keepConnecting } from "./connection.ts";
import type { Script } from "./scripts.ts";
import { isReply, isUnserved, RedisUnavailable, replyOf } from "./unavailable.ts";

export interface CommandsOptions {
  client: Redis | Cluster;
  logger: Pick<Logger, "info" | "warn" | "error">;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Messages on their way to Redis; those above are dropped and counted. */
  publishesMax: number;
  /** A refusal that was not met again for so long, ms, is over: of a Redis Cluster one part alone may refuse. */
  refusalLastsMs: number;
}

/** So long is waited for the first connection, ms: who does not answer by then is away, and may come later. */
export const firstConnectionMs = 3_000;

/** The setting that a line of the log is about. */
const details = { setting: "cluster.url" };

/** `new`: whether it is there is not known yet. */
type State = "new" | "away" | "ready" | "stopped";

export class Commands {
  readonly isCluster: boolean;
  readonly #readyListeners: (() => void)[] = [];
  #state: State = "new";
  #lastError: Error | null = null;
  readonly #refusals: Outage;
  #refused: { error: RedisUnavailable; at: number } | null = null;
  #replies = 0;
  readonly #giveUp: () => void;
  #publishing = 0;
  /** Published since something was in this turn of the loop: they go together at its end. Null: nothing was yet. */
  #later: [channel: string, text: string][] | null = null;
  #droppedPublishes = 0;

  constructor(private readonly options: CommandsOptions) {
    const { client, logger } = options;
    this.isCluster = client.isCluster;
    this.#refusals = new Outage({ level: "warn", gone: "Redis refuses", back: "Redis serves again", details, logger });
    // A fault of a connection shows in what it does; ioredis would print it at every try.
    client.on("error", (error) => {
      this.#lastError = error;
      const refusal = new RedisUnavailable(error);
      if (refusal.isRefusal) this.noteRefusal(refusal);
    });
    for (const event of ["close", "end"])
      client.on(event, () => this.#noteGone(this.#lastError?.message ?? "connection closed"));
    this.#giveUp = keepConnecting(client);
    client.on("ready", () => {
      if (this.#state === "stopped") return;
      this.#state = "ready";
      this.#lastError = null;
      if (this.#refused === null) logger.info("Redis is here");
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
      // A reason is told before the end that it leads to.
      const refuse = () => {
        const unavailable = new RedisUnavailable(this.#lastError ?? "no connection");
        if (this.#state === "new") this.#noteGone(unavailable.message);
        reject(unavailable);
      };
      for (const event of ["close", "end"]) client.once(event, refuse);
      const timer = setTimeout(refuse, firstConnectionMs);
      client.once("ready", () => {
        clearTimeout(timer);
        resolve();
      });
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
  call(command: string, ...args: (string | number)[]): Promise<unknown> {
    return this.#ask((client) => client.call(command, ...args));
  }

  /** @throws RedisUnavailable */
  async #ask<Reply>(ask: (client: Redis | Cluster) => Promise<Reply>): Promise<Reply> {
    const repliesBefore = this.#replies;
    if (!this.isReady) throw new RedisUnavailable(this.#lastError ?? "away");
    try {
      const reply = await ask(this.options.client);
      this.#replies++;
      return reply;
    } catch (error) {
      if (isReply(error)) {
        this.#replies++;
        if (!isUnserved(error)) throw error;
      } else if (String(error).includes("timed out")) {
        this.#noteSilence(repliesBefore);
      }
      const unavailable = new RedisUnavailable(error);
      if (unavailable.isRefusal) this.noteRefusal(unavailable);
      throw unavailable;
    }
  }

  /** @throws RedisUnavailable; what the script itself raises as it is */
  async run({ lua, sha }: Script, keys: string[], args: (string | number)[]): Promise<unknown> {
    try {
      return await this.call("evalsha", sha, keys.length, ...keys, ...args);
    } catch (error) {
      if (replyOf(error) !== "NOSCRIPT") throw error;
      return this.call("eval", lua, keys.length, ...keys, ...args);
    }
  }

  /**
   * Never throws, never waits; what Redis cannot take now is dropped and counted. The first of a turn of the loop goes at once,
   * what comes after it in the same turn together.
   */
  publish(channel: string, text: string): void {
    if (!this.isReady || this.#publishing >= this.options.publishesMax) {
      this.#droppedPublishes++;
      return;
    }
    this.#publishing++;
    // Of a Redis Cluster each goes to the master of its channel, which the client finds.
    if (this.isCluster) return this.#notePublished([this.call("spublish", channel, text)]);
    if (this.#later !== null) return void this.#later.push([channel, text]);
    this.#later = [];
    setImmediate(() => this.#publishLater());
    this.#notePublished([this.call("publish", channel, text)]);
  }

  #publishLater(): void {
    const published = this.#later!;
    this.#later = null;
    if (published.length === 0) return;
    if (!this.isReady) {
      this.#publishing -= published.length;
      this.#droppedPublishes += published.length;
      return;
    }
    const pipeline = this.options.client.pipeline();
    for (const [channel, text] of published) pipeline.publish(channel, text);
    const results = pipeline.exec();
    this.#notePublished(
      published.map((_, at) =>
        this.#ask(async () => {
          const [error, reply] = (await results)![at]!;
          if (error !== null) throw error;
          return reply;
        }),
      ),
    );
  }

  #notePublished(published: Promise<unknown>[]): void {
    for (const each of published) each.catch(() => this.#droppedPublishes++).finally(() => this.#publishing--);
  }

  /** Refused and not served since, on whichever connection. */
  get refusal(): RedisUnavailable | null {
    return this.#refused?.error ?? null;
  }

  /** To be called with what Redis refuses on another connection as well. Said once, however often it is refused. */
  noteRefusal(error: RedisUnavailable): void {
    this.#refused = { error, at: this.options.now() };
    this.#refusals.began(error);
  }

  /** To be called when all that a node needs has just been served. @throws RedisUnavailable where some was refused lately */
  noteServed(): void {
    if (this.#refused === null) return this.#refusals.ended();
    if (this.options.now() - this.#refused.at < this.options.refusalLastsMs) throw this.#refused.error;
    this.#refused = null;
    this.#refusals.ended();
  }

  /** Said once when it goes and once when it is back, however often it is tried in between. */
  #noteGone(reason: string): void {
    if (this.#state !== "ready" && this.#state !== "new") return;
    this.#state = "away";
    // A server that refuses may close the connection each time: that is told already.
    if (this.#refused === null) this.options.logger.warn({ ...details, reason }, "Redis is away");
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
