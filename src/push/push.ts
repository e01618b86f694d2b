/** Joins the parts that tell backends of what was missed: whether anybody wants it, the search, and the topic [BAK3]. */
import type { Config } from "../config/schema.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { MissedSearch, type MissedSearchOptions } from "./missed-search.ts";
import { MissedTopic, type MissedTopicOptions } from "./missed-topic.ts";
import { PushSwitch } from "./switch.ts";
import { Whereabouts, type WhereaboutsOptions } from "./whereabouts.ts";

export interface PushOptions
  extends Omit<MissedSearchOptions, "power" | "topic" | "afterMs" | "holder" | "whereabouts" | "log" | "presence">,
    Omit<MissedTopicOptions, "log">,
    WhereaboutsOptions {
  log: MissedSearchOptions["log"] & MissedTopicOptions["log"];
  settings: Config["push"];
}

/** Lists what the other parts of a node ask of it. */
export interface Push {
  /** A backend wants to know of all that is logged once this resolves. @throws Unavailable */
  want(): Promise<void>;
  /** Whether the user has a device that is connected to a node which lives. @throws Unavailable where that is not known */
  hasDevice(userId: string): Promise<boolean>;
  /** Tells backends at once of a call to somebody who has no device, once for each call, where any has ever wanted to know. @throws Unavailable */
  tellUnreached(call: ServerPayload<"call.unreached">): Promise<void>;
  start(): Promise<void>;
  /** Ends after what is under way; another node goes on. */
  stop(): Promise<void>;
  stats(): ReturnType<MissedSearch["stats"]>;
}

export function createPush(options: PushOptions): Push {
  const { settings, store, log, presence } = options;
  const power = new PushSwitch({ enabled: settings.enabled, store, log });
  const topic = new MissedTopic(options);
  const whereabouts = new Whereabouts(options);
  const { after: afterMs } = settings;
  const search = new MissedSearch({ ...options, power, topic, whereabouts, afterMs, holder: presence.run });
  return {
    async want() {
      if (!power.isOn) await power.turnOn();
    },
    hasDevice: async (userId) => (await whereabouts.seenAt([userId])).size > 0,
    async tellUnreached(call) {
      if (await power.isWanted()) await topic.tellUnreached(call);
    },
    start: () => search.start(),
    stop: () => search.stop(),
    stats: () => search.stats(),
  };
}
