/** Hears channels on one connection: subscribes page by page, again after every reconnect, and notices when it is deaf. */

import type { Redis } from "ioredis";
import { pages } from "../../ground/pages.ts";
import { keepConnecting } from "./connection.ts";
import { bucketOfChannel } from "./keys.ts";
import { RedisUnavailable, replyOf } from "./unavailable.ts";

export interface SubscriberLinkOptions {
  redis: Redis;
  /** Sharded channels, of a Redis Cluster: one command takes channels of one bucket only. */
  sharded: boolean;
  onMessage: (channel: string, text: string) => void;
  /** All channels are heard again; what was said meanwhile is lost. */
  onBack: () => void;
  /** Redis does not let this node hear: what it says. */
  onRefused: (refusal: RedisUnavailable) => void;
  /** A bucket's channels are another master's now. */
  onMoved: () => void;
}

/** After a refusal it is tried again so much later, ms: only an operator will have changed anything. */
const refusalPauseMs = 1_000;

/** Channels of one command. */
const channelsAtOnce = 500;

export class SubscriberLink {
  /** Channels that are to be heard, confirmed or not. */
  readonly #channels = new Set<string>();
  #wasReady = false;
  #state: "away" | "ready" | "stopped" = "away";
  readonly #giveUp: () => void;
  #lastError: Error | null = null;
  #refusal: RedisUnavailable | null = null;
  #pause: Timer | null = null;

  constructor(private readonly options: SubscriberLinkOptions) {
    const { redis, sharded, onMessage, onMoved } = options;
    redis.on("error", (error) => {
      this.#lastError = error;
      const unavailable = new RedisUnavailable(error);
      if (unavailable.isRefusal) this.#noteRefusal(unavailable);
    });
    this.#giveUp = keepConnecting(redis);
    redis.on("close", () => {
      if (this.#state === "ready") this.#state = "away";
    });
    redis.on("ready", () => {
      if (this.#state === "stopped") return;
      this.#state = "ready";
      this.#lastError = null;
      void this.#subscribeAll();
    });
    redis.on(sharded ? "smessage" : "message", onMessage);
    redis.on("moved", onMoved);
  }

  get isReady(): boolean {
    return this.#state === "ready";
  }

  get channels(): ReadonlySet<string> {
    return this.#channels;
  }

  /** Resolves once connected; goes on trying after it has rejected. */
  connect(): Promise<void> {
    const { redis } = this.options;
    return new Promise((resolve, reject) => {
      // Where no Sentinel answers, they are asked for ever.
      redis.once("error", reject);
      redis.connect().then(resolve, reject);
    });
  }

  stop(): void {
    this.#state = "stopped";
    this.#giveUp();
    if (this.#pause !== null) clearTimeout(this.#pause);
    this.options.redis.disconnect();
  }

  /** Resolves once the channels are heard; at once while the connection is away: it subscribes when it is back. */
  async add(channels: Iterable<string>): Promise<void> {
    const added = [...channels];
    for (const channel of added) this.#channels.add(channel);
    if (!this.isReady) return;
    try {
      await this.#subscribe(added);
    } catch (error) {
      this.#noteFailure(error);
    }
  }

  remove(channels: Iterable<string>): void {
    const removed = [...channels].filter((channel) => this.#channels.delete(channel));
    if (!this.isReady) return;
    for (const some of this.#pagesOf(removed)) {
      const { redis, sharded } = this.options;
      // Where it fails the connection is going, and with it the subscription.
      (sharded ? redis.sunsubscribe(...some) : redis.unsubscribe(...some)).catch(() => {});
    }
  }

  /** Takes away the channels of some buckets, for another link. */
  take(isTaken: (bucket: number) => boolean): string[] {
    const taken = [...this.#channels].filter((channel) => isTaken(bucketOfChannel(channel)));
    this.remove(taken);
    return taken;
  }

  /** @throws RedisUnavailable where nothing comes back in time, and the connection is then made anew; or where it may not hear */
  async ping(): Promise<void> {
    if (this.#refusal !== null) throw this.#refusal;
    if (!this.isReady) throw new RedisUnavailable(this.#lastError ?? "no connection");
    try {
      await this.options.redis.ping();
    } catch (error) {
      this.#renew();
      throw new RedisUnavailable(error);
    }
  }

  /** The connection is up and yet hears nothing: a new one is made. */
  noteDeaf(): void {
    this.#renew();
  }

  #renew(): void {
    if (!this.isReady) return;
    this.#state = "away";
    this.options.redis.disconnect(true);
  }

  async #subscribeAll(): Promise<void> {
    // Channels that were to be heard before the first connection have been missed too.
    const isBack = this.#wasReady || this.#channels.size > 0;
    this.#wasReady = true;
    try {
      await this.#subscribe(this.#channels);
      this.#refusal = null;
      if (isBack && this.isReady) this.options.onBack();
    } catch (error) {
      this.#noteFailure(error);
    }
  }

  #noteFailure(error: unknown): void {
    const unavailable = new RedisUnavailable(error);
    if (!unavailable.isRefusal) return this.#renew();
    this.#noteRefusal(unavailable);
    this.#pause ??= setTimeout(() => {
      this.#pause = null;
      this.#renew();
    }, refusalPauseMs);
  }

  #noteRefusal(refusal: RedisUnavailable): void {
    this.#refusal = refusal;
    this.options.onRefused(refusal);
  }

  async #subscribe(channels: Iterable<string>): Promise<void> {
    const { redis, sharded, onMoved } = this.options;
    await Promise.all(
      this.#pagesOf(channels).map(async (some) => {
        try {
          await (sharded ? redis.ssubscribe(...some) : redis.subscribe(...some));
        } catch (error) {
          // Not this connection's fault: whoever knows the masters takes these channels elsewhere.
          if (sharded && replyOf(error) === "MOVED") onMoved();
          else throw error;
        }
      }),
    );
  }

  #pagesOf(channels: Iterable<string>): string[][] {
    const groups = new Map<number, string[]>();
    for (const channel of channels) {
      const group = this.options.sharded ? bucketOfChannel(channel) : 0;
      const known = groups.get(group);
      if (known === undefined) groups.set(group, [channel]);
      else known.push(channel);
    }
    return [...groups.values()].flatMap((group) => pages(group, channelsAtOnce));
  }
}
