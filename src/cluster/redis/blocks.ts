/** Who may not connect for a while, known to all nodes; a node puts back its own where Redis came back empty [ADM1]. */
import type { BlockList } from "../ports.ts";
import { type Commands, RedisUnavailable, script } from "./commands.ts";
import type { Epoch } from "./epoch.ts";
import { blockKey } from "./keys.ts";

export interface RedisBlockListOptions {
  commands: Commands;
  epoch: Epoch;
  /** Milliseconds since the epoch. */
  now: () => number;
  /** Blocks of this node that are remembered to be put back. */
  rememberedMax: number;
  /** Within so long after Redis is back every node has put back what it knows, ms. */
  settlingMs: number;
}

/** KEYS: one for each block; ARGV: its end and how long that is, ms. What is there already is newer. */
const restoreScript = script(`
for at, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[at * 2 - 1], 'PX', ARGV[at * 2], 'NX')
end
`);

const share = 500;

export class RedisBlockList implements BlockList {
  readonly #remembered = new Map<string, number>();
  /** Until when blocks may have been unknown, ms since the epoch; null: they are all known. */
  #doubtfulUntil: number | null = null;
  #onDoubt: () => void = () => {};

  constructor(private readonly options: RedisBlockListOptions) {}

  /** Replaces an earlier block; a moment that has passed lifts it. @throws RedisUnavailable */
  async block(userId: string, untilMs: number): Promise<void> {
    const { commands, now, rememberedMax } = this.options;
    const restMs = Math.ceil(untilMs - now());
    if (restMs <= 0) {
      await commands.call("del", blockKey(userId));
      this.#remembered.delete(userId);
      return;
    }
    await commands.call("set", blockKey(userId), untilMs, "PX", restMs);
    this.#remembered.delete(userId);
    this.#remembered.set(userId, untilMs);
    if (this.#remembered.size > rememberedMax) this.#remembered.delete(this.#remembered.keys().next().value!);
  }

  /** While Redis is away, what this node knows: a block is no reason to keep everybody out. */
  async blockedUntil(userId: string): Promise<number | null> {
    const { commands, now } = this.options;
    let until: number | null;
    try {
      const found = await commands.call("get", blockKey(userId));
      until = found === null ? null : Number(found);
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) throw error;
      until = this.#remembered.get(userId) ?? null;
    }
    return until !== null && until > now() ? until : null;
  }

  onDoubt(listener: () => void): void {
    this.#onDoubt = listener;
  }

  /** To be called when Redis is back: this node knew only its own blocks meanwhile. */
  doubt(): void {
    this.#doubtfulUntil = this.options.now() + this.options.settlingMs;
  }

  /** Puts back what Redis has lost; forgets what has ended, or what another node has changed. */
  async restore(): Promise<void> {
    const { commands, epoch, now } = this.options;
    const { lost, mark } = await epoch.look();
    if (lost) this.doubt();
    for (const [userId, until] of this.#remembered) if (until <= now()) this.#remembered.delete(userId);
    const all = [...this.#remembered];
    for (let start = 0; start < all.length; start += share) {
      const some = all.slice(start, start + share);
      const keys = some.map(([userId]) => blockKey(userId));
      if (lost) {
        const ends = some.flatMap(([, until]) => [until, Math.max(1, Math.ceil(until - now()))]);
        await commands.run(restoreScript, keys, ends);
      } else {
        const found = (await commands.call("mget", ...keys)) as (string | null)[];
        for (const [at, [userId, until]] of some.entries()) {
          const isTheSame = this.#remembered.get(userId) === until;
          if (isTheSame && found[at] !== String(until)) this.#remembered.delete(userId);
        }
      }
    }
    epoch.accept(mark);
    if (this.#doubtfulUntil === null) return;
    // Once more after the end, with what was put back last.
    if (this.#doubtfulUntil <= now()) this.#doubtfulUntil = null;
    this.#onDoubt();
  }
}
