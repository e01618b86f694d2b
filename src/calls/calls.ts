/** Joins the calls with what carries them to devices, keeps the missed ones, and knows who may call whom. */
import type { Broadcaster } from "../broadcast/broadcaster.ts";
import { idempotencyKey } from "../broadcast/idempotency-key.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import type { Cluster } from "../cluster/ports.ts";
import type { Config } from "../config/schema.ts";
import { realTimers } from "../ground/timers.ts";
import type { PresenceTracker } from "../presence/tracker.ts";
import { callsTopic, userTopic } from "../protocol/topic.ts";
import type { Push } from "../push/push.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type CallPermissionOptions, createCallPermission } from "./permission.ts";
import { CallService } from "./service.ts";

export interface CallsOptions extends Pick<CallPermissionOptions, "view" | "directory"> {
  cluster: Pick<Cluster, "nodeId" | "calls" | "bus">;
  settings: Config["calls"];
  broadcaster: Pick<Broadcaster, "toTopic" | "reachesDevice">;
  publisher: Pick<Publisher, "append">;
  presence: Pick<PresenceTracker, "devicesOf">;
  push: Pick<Push, "hasDevice" | "tellUnreached">;
  /** Whether backends may want to hear of callees without a device [BAK3]. */
  wakes: boolean;
  now: () => number;
  newId: () => string;
  logger: Logger;
}

export function createCalls(options: CallsOptions): CallService {
  const { cluster, settings, broadcaster, publisher, presence, view, directory } = options;
  const { push, wakes, now, newId, logger } = options;
  return new CallService({
    registry: cluster.calls,
    nodeId: cluster.nodeId,
    isHere: (device) => broadcaster.reachesDevice(device),
    deliver({ userId, deviceId, type, payload, owed }) {
      // A node of 0.1 does not know what that is, and has told it at the first time.
      if (owed === "again") return cluster.bus.broadcast({ kind: "owed", userId, deviceId, callId: payload.call_id });
      // Of an end other nodes hear only where this one has not told it itself [CALL4].
      const reach = type !== "call.ended" ? "everywhere" : owed === "first" ? "elsewhere" : "here";
      const audience = { onlyDevice: deviceId, reach, isOwed: owed === "first" } as const;
      broadcaster.toTopic(callsTopic(userId), { type, payload }, audience);
    },
    devicesOf: async (userId) => (await presence.devicesOf(userId)).map(({ deviceId }) => deviceId),
    mayCall: createCallPermission({ settings, view, directory }),
    async logMissed(userId, payload, callId) {
      await publisher.append({
        id: newId(),
        topic: userTopic(userId),
        type: "call.ended",
        payload,
        createdAt: now(),
        // Callers choose the ids of calls: one that was used before is another call between other people.
        once: { keys: [idempotencyKey(["missed", payload.from_user_id!, userId], callId)] },
      });
    },
    wakes,
    hasDevice: (userId) => push.hasDevice(userId),
    logUnreached: (payload) => push.tellUnreached(payload),
    now,
    after: realTimers.after,
    settings,
    logger,
  });
}
