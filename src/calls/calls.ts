/** Joins the calls with what carries them to devices, keeps the missed ones, and knows who may call whom. */
import type { Broadcaster } from "../broadcast/broadcaster.ts";
import { idempotencyKey } from "../broadcast/idempotency-key.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import type { CallRegistry } from "../cluster/ports.ts";
import type { Config } from "../config/schema.ts";
import { realTimers } from "../presence/timers.ts";
import type { PresenceTracker } from "../presence/tracker.ts";
import { callsTopic, userTopic } from "../subscription/topic.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type CallPermissionOptions, createCallPermission } from "./permission.ts";
import { type CallService, createCallService } from "./service.ts";

export interface CallsOptions extends Pick<CallPermissionOptions, "view" | "directory"> {
  settings: Config["calls"];
  registry: CallRegistry;
  broadcaster: Pick<Broadcaster, "toTopic">;
  publisher: Pick<Publisher, "append">;
  presence: Pick<PresenceTracker, "deviceIdsOf">;
  now: () => number;
  newId: () => string;
  logger: Logger;
}

export function createCalls(options: CallsOptions): CallService {
  const { settings, registry, broadcaster, publisher, presence, view, directory, now, newId, logger } = options;
  return createCallService({
    registry,
    deliver: ({ userId, deviceId, type, payload }) =>
      void broadcaster.toTopic(callsTopic(userId), { type, payload }, { onlyDevice: deviceId }),
    devicesOf: (userId) => presence.deviceIdsOf(userId),
    mayCall: createCallPermission({ settings, view, directory }),
    async logMissed(userId, payload, callId) {
      await publisher.append({
        id: newId(),
        topic: userTopic(userId),
        type: "call.ended",
        payload: JSON.stringify(payload),
        createdAt: now(),
        // Callers choose the ids of calls: one that was used before is another call between other people.
        once: { keys: [idempotencyKey(["missed", payload.from_user_id!, userId], callId)] },
      });
    },
    now,
    after: realTimers.after,
    settings,
    logger,
  });
}
