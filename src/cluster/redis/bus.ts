/** Carries the bus on Redis pub/sub: a node hears the topics that somebody on it is subscribed to, and what is said to all. */
import type { Cluster, Redis } from "ioredis";
import type { Logger } from "../../telemetry/logger.ts";
import type { Bus, ControlMessage, PresenceWord, TopicMessage } from "../ports.ts";
import type { RedisAddress } from "./address.ts";
import type { Commands } from "./commands.ts";
import { buckets, type Keys } from "./keys.ts";
import { SubscriberLinks } from "./subscriber-links.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface RedisBusOptions {
  address: RedisAddress;
  client: Redis | Cluster;
  commands: Commands;
  keys: Keys;
  /** Names this run of this node; its own messages come back to it and are passed over. */
  run: string;
  commandTimeoutMs: number;
  /** A subscriber waits no longer than this for the bus: the log has what is missed. */
  watchTimeoutMs: number;
  /** Within so long a node must hear what it says to itself. */
  echoTimeoutMs: number;
  /** Milliseconds since 1970. */
  now: () => number;
  logger: Pick<Logger, "warn">;
}

/** Travels on a channel: a message, and from whom, which stands first. */
interface BusFrame {
  from: string;
  topic?: TopicMessage;
  control?: ControlMessage;
  /** Written by a script, on the channels of two topics of the user. */
  presence?: PresenceWord;
}

interface WatchedChannel {
  heard: Promise<void>;
  /** How many sweeps in a row nobody wanted it. */
  unwantedSweeps: number;
}

export class RedisBus implements Bus {
  readonly #links: SubscriberLinks;
  readonly #watched = new Map<string, WatchedChannel>();
  /** Topics of this turn of the loop: they share a SUBSCRIBE. */
  #asked: { channels: string[]; heard: Promise<void> } | null = null;
  readonly #echoes = new Map<string, () => void>();
  #echoNumber = 0;
  #malformed = 0;
  /** Begins what this node says itself. */
  readonly #ownStart: string;
  #onTopicMessage: (message: TopicMessage) => void = () => {};
  #onControlMessage: (message: ControlMessage) => void = () => {};
  #onPresenceWord: (word: PresenceWord) => void = () => {};
  #onGap: (sinceMs: number) => void = () => {};
  /** When this node was last known to be heard and to hear, ms since 1970. */
  #soundAt: number;
  /** Publishes that were lost until then. */
  #droppedBefore = 0;

  constructor(private readonly options: RedisBusOptions) {
    const { address, client, commands, commandTimeoutMs, now } = options;
    this.#soundAt = now();
    this.#ownStart = JSON.stringify({ from: options.run }).slice(0, -1);
    this.#links = new SubscriberLinks({
      address,
      client,
      commandTimeoutMs,
      onMessage: (channel, text) => this.#hear(channel, text),
      onGap: () => this.#onGap(this.#soundAt),
      onRefused: (refusal) => commands.noteRefusal(refusal),
    });
    // All that was said meanwhile was dropped, though it may have heard the others all the time.
    commands.onReady(() => this.#onGap(this.#soundAt));
  }

  async start(): Promise<void> {
    await this.#links.start();
    // Of a Redis Cluster every bucket may be on a master of its own.
    const echoed = this.options.commands.isCluster ? buckets : [0];
    const { run, keys } = this.options;
    await this.#links.add([keys.controlChannel, ...echoed.map((bucket) => keys.echoChannel(bucket, run))]);
  }

  stop(): void {
    this.#links.stop();
  }

  publish(topic: string, message: TopicMessage): void {
    this.#send(this.options.keys.topicChannel(topic), { from: this.options.run, topic: message });
  }

  broadcast(message: ControlMessage): void {
    this.#send(this.options.keys.controlChannel, { from: this.options.run, control: message });
  }

  watch(topic: string): Promise<void> {
    const known = this.#watched.get(topic);
    if (known !== undefined) {
      known.unwantedSweeps = 0;
      return known.heard;
    }
    this.#asked ??= this.#nextShare();
    this.#asked.channels.push(this.options.keys.topicChannel(topic));
    const { heard } = this.#asked;
    this.#watched.set(topic, { heard, unwantedSweeps: 0 });
    return heard;
  }

  sweep(isWanted: (topic: string) => boolean): void {
    const left: string[] = [];
    for (const [topic, watched] of this.#watched) {
      watched.unwantedSweeps = isWanted(topic) ? 0 : watched.unwantedSweeps + 1;
      if (watched.unwantedSweeps < 2) continue;
      this.#watched.delete(topic);
      left.push(this.options.keys.topicChannel(topic));
    }
    if (left.length > 0) this.#links.remove(left);
  }

  onTopicMessage(listener: (message: TopicMessage) => void): void {
    this.#onTopicMessage = listener;
  }

  onControlMessage(listener: (message: ControlMessage) => void): void {
    this.#onControlMessage = listener;
  }

  onPresenceWord(listener: (word: PresenceWord) => void): void {
    this.#onPresenceWord = listener;
  }

  onGap(listener: (sinceMs: number) => void): void {
    this.#onGap = listener;
  }

  /** @throws RedisUnavailable unless every connection is up and hears what this node says to itself; one that does not is made anew */
  async probe(): Promise<void> {
    const startedAt = this.options.now();
    const links = this.#links.all();
    if (links.length === 0) throw new RedisUnavailable("the bus is not connected");
    await Promise.all(
      links.map(async ({ link, bucket }) => {
        await link.ping();
        if (await this.#echo(bucket)) return;
        link.noteDeaf();
        throw new RedisUnavailable("the bus does not hear what this node says to itself");
      }),
    );
    // Of a Redis Cluster one part alone may have been away, and the connection never quite broken.
    const dropped = this.options.commands.droppedPublishes;
    if (dropped > this.#droppedBefore) this.#onGap(this.#soundAt);
    this.#droppedBefore = dropped;
    this.#soundAt = startedAt;
  }

  stats() {
    return {
      topics: this.#watched.size,
      dropped: this.options.commands.droppedPublishes,
      malformed: this.#malformed,
    };
  }

  #nextShare(): { channels: string[]; heard: Promise<void> } {
    const channels: string[] = [];
    const { promise: heard, resolve } = Promise.withResolvers<void>();
    setImmediate(() => {
      this.#asked = null;
      const timer = setTimeout(resolve, this.options.watchTimeoutMs);
      void this.#links.add(channels).finally(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    return { channels, heard };
  }

  #send(channel: string, frame: BusFrame): void {
    this.options.commands.publish(channel, JSON.stringify(frame));
  }

  #hear(channel: string, text: string): void {
    if (this.#echoes.size > 0) {
      const arrived = this.#echoes.get(`${channel} ${text}`);
      if (arrived !== undefined) return arrived();
    }
    // Half of what is heard, where those who send are among those who listen.
    if (text.startsWith(this.#ownStart)) return;
    let frame: BusFrame;
    try {
      frame = JSON.parse(text) as BusFrame;
    } catch {
      this.#malformed++;
      return;
    }
    if (typeof frame !== "object" || frame === null) return;
    try {
      if (frame.topic !== undefined) this.#onTopicMessage(frame.topic);
      else if (frame.control !== undefined) this.#onControlMessage(frame.control);
      else if (frame.presence !== undefined) this.#onPresenceWord(frame.presence);
    } catch (error) {
      // A newer node may say what this one does not understand.
      this.#malformed++;
      this.options.logger.warn({ err: error }, "a message of another node was not understood");
    }
  }

  /** @returns whether this node has heard itself in time; rejects where it could not even speak */
  async #echo(bucket: number): Promise<boolean> {
    const { commands, run, keys, echoTimeoutMs } = this.options;
    const channel = keys.echoChannel(bucket, run);
    const text = String(++this.#echoNumber);
    const key = `${channel} ${text}`;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#echoes.set(key, () => resolve(true));
    const timer = setTimeout(() => resolve(false), echoTimeoutMs);
    try {
      await commands.call(commands.isCluster ? "spublish" : "publish", channel, text);
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#echoes.delete(key);
    }
  }
}
