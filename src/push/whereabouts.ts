/** Says who has a device on a node that lives, as far as that can be known [BAK3]. */
import type { DevicePresence, NodeRegistry, PresenceRegistry } from "../cluster/ports.ts";
import { BoundedMap } from "../ground/bounded-map.ts";
import { pages } from "../ground/pages.ts";
import { Unavailable } from "../ground/unavailable.ts";

export interface WhereaboutsOptions {
  presence: Pick<PresenceRegistry, "read" | "run" | "now">;
  nodes: Pick<NodeRegistry, "signs">;
  /** So long (ms) after its last sign of life a node is dead: `cluster.dead_after`. */
  deadAfterMs: number;
}

/** Users whose records are read together. */
const usersAtOnce = 1_000;
/** Runs of nodes that are remembered to have devices and to say nothing; of more the oldest are forgotten. */
const strangersMax = 1_000;

export class Whereabouts {
  /** Runs that have devices and of which no sign is known, since when (ms by the registry's clock). */
  readonly #strangers = new BoundedMap<string, number>(strangersMax);

  constructor(private readonly options: WhereaboutsOptions) {}

  /**
   * Says of users with a connected device when a node that has one last said that it lives, ms by the registry's clock. Devices
   * in their grace and those of nodes that are dead are none.
   * @throws Unavailable where it is not known of all of them
   */
  async seenAt(userIds: string[]): Promise<Map<string, number>> {
    const { presence, nodes } = this.options;
    const devices = new Map<string, DevicePresence[]>();
    for (const page of pages(userIds, usersAtOnce)) {
      const records = await presence.read(page);
      for (const userId of page) {
        const known = records.get(userId);
        if (known === undefined || known.isPartial) throw new Unavailable("cluster", "It is not known who is here.");
        const here = known.record?.devices.filter(({ leaving }) => leaving === undefined) ?? [];
        if (here.length > 0) devices.set(userId, here);
      }
    }
    const isElsewhere = ({ run }: DevicePresence) => run !== presence.run;
    if (![...devices.values()].some((here) => here.every(isElsewhere)))
      return new Map([...devices.keys()].map((userId) => [userId, Number.POSITIVE_INFINITY]));
    // Asked after the records: a node that lives now had the device then.
    const { at, isSettled } = await nodes.signs();
    const signOf = (run: string) => this.#signOf(run, at, isSettled);
    const seen = [...devices].map(([userId, here]): [string, number] => [
      userId,
      Math.max(...here.map(({ run }) => signOf(run))),
    ]);
    return new Map(seen.filter(([, seenAt]) => seenAt > dead));
  }

  #signOf(run: string, signs: Map<string, number>, isSettled: boolean): number {
    const { presence, deadAfterMs } = this.options;
    if (run === presence.run) return Number.POSITIVE_INFINITY;
    const now = presence.now();
    const sign = signs.get(run);
    if (sign !== undefined) this.#strangers.delete(run);
    else if (!this.#strangers.has(run)) this.#strangers.set(run, now);
    const since = sign ?? this.#strangers.get(run)!;
    if (isSettled && now - since > deadAfterMs) return dead;
    return sign ?? unknown;
  }
}

/** Lie before every moment. */
const [dead, unknown] = [Number.NEGATIVE_INFINITY, 0];
