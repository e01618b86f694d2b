/** Tells which nodes there are: each says so from time to time, and who has not for long is dead. */
import { pages } from "../../ground/pages.ts";
import type { NodeInfo, NodeRegistry, SignsOfLife } from "../ports.ts";
import type { Commands } from "./commands.ts";
import type { Keys } from "./keys.ts";
import { nodeScripts, type Script } from "./scripts.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface RedisNodeRegistryOptions {
  commands: Commands;
  keys: Keys;
  nodeId: string;
  /** Names this run of this node: one that was restarted under its old name does not inherit. */
  run: string;
  version: string;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Dead is who has not been seen for so long, ms, by Redis's own clock. */
  deadAfterMs: number;
}

export class RedisNodeRegistry implements NodeRegistry {
  readonly #self: NodeInfo;
  /** By name, as Redis had them last: whoever asks while it is away is told who cannot be reached. */
  #lastKnown = new Map<string, NodeInfo>();
  /** Before this moment (ms) other nodes count as alive: they had no Redis to say so either. */
  #trustAfter = Number.POSITIVE_INFINITY;

  constructor(private readonly options: RedisNodeRegistryOptions) {
    const { commands, nodeId, version, now } = options;
    commands.onReady(() => (this.#trustAfter = Number.POSITIVE_INFINITY));
    this.#self = { nodeId, startedAt: now(), seenAt: now(), connections: 0, version };
  }

  /** Every node that lives or has died just now, by name; while Redis is away those that it had last. */
  async list(): Promise<NodeInfo[]> {
    const { commands, keys, now } = this.options;
    const self = { ...this.#self, seenAt: now() };
    try {
      this.#remember((await commands.call("hvals", keys.figures)) as string[]);
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) throw error;
    }
    const byId = new Map(this.#lastKnown).set(self.nodeId, self);
    return [...byId.values()].sort((one, other) => (one.nodeId < other.nodeId ? -1 : 1));
  }

  async beat(connections: number): Promise<void> {
    this.#self.connections = connections;
    // While Redis is away it is said with the first sign of life once it is back.
    await this.sayAlive().catch((error) => {
      if (!(error instanceof RedisUnavailable)) throw error;
    });
  }

  /** @throws RedisUnavailable */
  async sayAlive(): Promise<void> {
    const { deadAfterMs, run, keys, now } = this.options;
    this.#self.seenAt = now();
    const self = JSON.stringify(this.#self);
    this.#remember(await this.#run(nodeScripts.beat, [keys.seen, keys.figures], [run, self]));
    if (this.#trustAfter === Number.POSITIVE_INFINITY) this.#trustAfter = now() + deadAfterMs;
  }

  async signs(): Promise<SignsOfLife> {
    const { commands, keys, now } = this.options;
    const found = (await commands.call("zrangebyscore", keys.seen, "-inf", "+inf", "WITHSCORES")) as string[];
    const at = new Map(pages(found, 2).map(([run, seenAt]) => [run!, Number(seenAt)]));
    return { at, isSettled: now() >= this.#trustAfter };
  }

  /** Runs of nodes that have not been seen for too long, each with its last sign of life, ms by Redis's clock. @throws RedisUnavailable */
  async dead(): Promise<{ run: string; seenAt: number }[]> {
    const { deadAfterMs, run, keys, now } = this.options;
    const found = await this.#run(nodeScripts.dead, [keys.seen], [deadAfterMs]);
    if (now() < this.#trustAfter) return [];
    const dead = Array.from({ length: found.length / 2 }, (_, at) => ({
      run: found[at * 2]!,
      seenAt: Number(found[at * 2 + 1]),
    }));
    return dead.filter((it) => it.run !== run);
  }

  /** Takes a run of a node off the list; with `seenAt` only where it has given no sign of life since. @throws RedisUnavailable */
  async remove(run: string, seenAt?: number): Promise<void> {
    const { commands, keys } = this.options;
    await commands.run(nodeScripts.remove, [keys.seen, keys.figures], [run, seenAt ?? ""]);
  }

  /** Of a Redis Cluster the part that has the nodes alone may be away. */
  async #run(script: Script, of: string[], given: (string | number)[]): Promise<string[]> {
    try {
      return (await this.options.commands.run(script, of, given)) as string[];
    } catch (error) {
      this.#trustAfter = Number.POSITIVE_INFINITY;
      throw error;
    }
  }

  /** A node that was restarted may be there twice: its newest run counts. */
  #remember(figures: string[]): void {
    const byId = new Map<string, NodeInfo>();
    const infos = figures.map((text) => JSON.parse(text) as NodeInfo);
    for (const info of infos) {
      if ((byId.get(info.nodeId)?.startedAt ?? 0) <= info.startedAt) byId.set(info.nodeId, info);
    }
    this.#lastKnown = byId;
  }
}
