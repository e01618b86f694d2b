/** Keeps the connections that hear channels: one, or one for each master of a Redis Cluster, following slots that move. */
import type { Cluster, Redis } from "ioredis";
import type { RedisAddress } from "./address.ts";
import { firstConnectionMs } from "./commands.ts";
import { openSubscriber } from "./connection.ts";
import { bucketOfChannel, buckets, slotOf } from "./keys.ts";
import { SubscriberLink } from "./subscriber-link.ts";
import type { RedisUnavailable } from "./unavailable.ts";

export interface SubscriberLinksOptions {
  address: RedisAddress;
  client: Redis | Cluster;
  commandTimeoutMs: number;
  onMessage: (channel: string, text: string) => void;
  /** Some channels were not heard for a while. */
  onGap: () => void;
  onRefused: (refusal: RedisUnavailable) => void;
}

/** The name that stands for the one server. */
const single = "";

export class SubscriberLinks {
  readonly #links = new Map<string, SubscriberLink>();
  /** By bucket: the master that its channels are heard from. */
  #masters: string[] = buckets.map(() => single);
  /** Channels to be heard from masters that are not known yet: a Redis Cluster may be away when a node starts. */
  readonly #unplaced = new Set<string>();
  #stopped = false;

  constructor(private readonly options: SubscriberLinksOptions) {
    const { client } = options;
    if (client.isCluster) client.on("refresh", () => this.#followSlots());
  }

  /** To be called once the command connection is there; resolves when channels can be heard, or a try has failed. */
  async start(): Promise<void> {
    if (this.options.client.isCluster) this.#followSlots();
    else this.#open(single);
    await Promise.all([...this.#links.values()].map((link) => connected(link)));
  }

  stop(): void {
    this.#stopped = true;
    for (const link of this.#links.values()) link.stop();
    this.#links.clear();
  }

  async add(channels: string[]): Promise<void> {
    for (const channel of channels) if (this.#linkOf(channel) === undefined) this.#unplaced.add(channel);
    await Promise.all([...this.#byLink(channels)].map(([link, some]) => link.add(some)));
  }

  remove(channels: string[]): void {
    for (const channel of channels) this.#unplaced.delete(channel);
    for (const [link, some] of this.#byLink(channels)) link.remove(some);
  }

  /** Each connection with one of the buckets that are heard on it. */
  all(): { link: SubscriberLink; bucket: number }[] {
    return [...this.#links].map(([master, link]) => ({ link, bucket: this.#masters.indexOf(master) }));
  }

  #linkOf(channel: string): SubscriberLink | undefined {
    return this.#links.get(this.#masters[bucketOfChannel(channel)]!);
  }

  #byLink(channels: string[]): Map<SubscriberLink, string[]> {
    const groups = new Map<SubscriberLink, string[]>();
    for (const channel of channels) {
      const link = this.#linkOf(channel);
      if (link === undefined) continue;
      const group = groups.get(link);
      if (group === undefined) groups.set(link, [channel]);
      else group.push(channel);
    }
    return groups;
  }

  #open(master: string): SubscriberLink {
    const { address, client, commandTimeoutMs, onMessage, onGap, onRefused } = this.options;
    const colon = master.lastIndexOf(":");
    const endpoint = master === single ? null : { host: master.slice(0, colon), port: Number(master.slice(colon + 1)) };
    const link = new SubscriberLink({
      redis: openSubscriber(address, { endpoint, commandTimeoutMs }),
      sharded: client.isCluster,
      onMessage,
      onBack: onGap,
      onRefused,
      onMoved: () => {
        if (client.isCluster) (client as Cluster).refreshSlotsCache();
      },
    });
    this.#links.set(master, link);
    return link;
  }

  /** Hears every bucket from the master that has its slot now. */
  #followSlots(): void {
    if (this.#stopped) return;
    const { slots } = this.options.client as Cluster;
    const masters = buckets.map((bucket) => slots[slotOf(bucket)]?.[0] ?? this.#masters[bucket]!);
    const before = this.#masters;
    this.#masters = masters;
    const moved: string[] = [];
    for (const [master, link] of this.#links) {
      moved.push(...link.take((bucket) => masters[bucket] !== master));
      if (masters.includes(master)) continue;
      link.stop();
      this.#links.delete(master);
    }
    for (const master of new Set(masters)) {
      if (master !== single && !this.#links.has(master)) void connected(this.#open(master));
    }
    if (masters.every((master, bucket) => master === before[bucket])) return;
    moved.push(...this.#unplaced);
    this.#unplaced.clear();
    void this.add(moved).then(() => {
      if (moved.length > 0 && !this.#stopped) this.options.onGap();
    });
  }
}

/** Resolves once the first try to connect has ended, or takes too long; a connection goes on trying by itself. */
const connected = (link: SubscriberLink) =>
  Promise.race([link.connect().catch(() => {}), Bun.sleep(firstConnectionMs)]);
