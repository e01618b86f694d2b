/** Which nodes there are: each says so from time to time, and who has not for long is dead. */
import type { NodeInfo, NodeRegistry } from "../ports.ts";
import type { Commands } from "./commands.ts";
import type { Keys } from "./keys.ts";
import { nodeScripts } from "./scripts.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface RedisNodeRegistryOptions {
  commands: Commands;
  keys: Keys;
  nodeId: string;
  /** Names this run of this node: one that was restarted under its old name does not inherit. */
  instance: string;
  version: string;
  /** Milliseconds since the epoch. */
  now: () => number;
  /** Dead is who has not been seen for so long, ms, by Redis's own clock. */
  deadAfterMs: number;
  /** A node that is not on the list for so long is gone, ms: where Redis was emptied each is back on it by then. */
  goneAfterMs: number;
}

export class RedisNodeRegistry implements NodeRegistry {
  readonly #self: NodeInfo;
  /** By name, as Redis had them last: whoever asks while it is away is told who cannot be reached. */
  #lastKnown = new Map<string, NodeInfo>();

  /** Runs of other nodes, each with the moment (ms) since when it is not on the list any more; null: it is. */
  readonly #runs = new Map<string, number | null>();
  #onGone: () => void = () => {};

  constructor(private readonly options: RedisNodeRegistryOptions) {
    const { nodeId, version, now } = options;
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

  /** Whether every node that was there is on the list, or has gone for good. */
  get areAllListed(): boolean {
    return this.#runs.values().every((missingSince) => missingSince === null);
  }

  onGone(listener: () => void): void {
    this.#onGone = listener;
  }

  /** @throws RedisUnavailable */
  async sayAlive(): Promise<void> {
    const { commands, instance, keys, now } = this.options;
    this.#self.seenAt = now();
    this.#remember(
      (await commands.run(
        nodeScripts.beat,
        [keys.seen, keys.figures],
        [instance, JSON.stringify(this.#self)],
      )) as string[],
    );
  }

  /** Runs of nodes that have not been seen for too long. @throws RedisUnavailable */
  async dead(): Promise<string[]> {
    const { commands, deadAfterMs, instance, keys } = this.options;
    const dead = (await commands.run(nodeScripts.dead, [keys.seen], [deadAfterMs])) as string[];
    return dead.filter((it) => it !== instance);
  }

  /** Takes a run of a node off the list. @throws RedisUnavailable */
  async remove(instance: string): Promise<void> {
    const { commands, keys } = this.options;
    await commands.run(nodeScripts.remove, [keys.seen, keys.figures], [instance]);
  }

  /** A node that was restarted may be there twice: its newest run counts. */
  #remember(figures: string[]): void {
    const byId = new Map<string, NodeInfo>();
    const infos = figures.map((text) => JSON.parse(text) as NodeInfo);
    for (const info of infos) {
      if ((byId.get(info.nodeId)?.startedAt ?? 0) <= info.startedAt) byId.set(info.nodeId, info);
    }
    this.#lastKnown = byId;
    this.#noteGone(new Set(infos.map(({ nodeId, startedAt }) => `${nodeId} ${startedAt}`)));
  }

  /** A run is taken off the list once its devices are out of the registry. */
  #noteGone(there: Set<string>): void {
    const at = this.options.now();
    let isOneGone = false;
    for (const run of there) this.#runs.set(run, null);
    for (const [run, missingSince] of this.#runs) {
      if (there.has(run)) continue;
      if (missingSince === null) this.#runs.set(run, at);
      else if (at - missingSince >= this.options.goneAfterMs) {
        this.#runs.delete(run);
        isOneGone = true;
      }
    }
    if (isOneGone) this.#onGone();
  }
}
