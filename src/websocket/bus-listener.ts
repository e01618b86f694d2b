/** Brings what other nodes say to this node's connections. */
import type { Broadcaster } from "../broadcast/broadcaster.ts";
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { CallService } from "../calls/service.ts";
import type { Cluster, ControlMessage, TopicMessage } from "../cluster/ports.ts";
import type { DeviceRef, PresenceTracker } from "../presence/tracker.ts";
import type { TypingTracker } from "../presence/typing.ts";
import { CloseCode } from "../protocol/close.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { callsTopic } from "../protocol/topic.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { Logger } from "../telemetry/logger.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import type { Hub } from "./hub.ts";
import { listenForLogBreaks } from "./log-break-listener.ts";

export interface BusListenerOptions {
  cluster: Pick<Cluster, "bus">;
  sequencer: Sequencer;
  broadcaster: Broadcaster;
  presence: Pick<PresenceTracker, "recheckAll">;
  subscriptions: Pick<SubscriptionManager, "noteLogged" | "logBreaks" | "tellLogBreak">;
  typing: TypingTracker;
  calls: Pick<CallService, "tellOwed" | "isOn">;
  hub: Hub;
  /** Null where nothing is traced. */
  tracing: Tracing | null;
  /** Each takes the questions and answers that are its own. */
  surveys: { hear(message: ControlMessage): void }[];
  logger: Logger;
}

/** Begins to follow; nothing that was said before is heard. */
export function listenToBus(options: BusListenerOptions): void {
  const { cluster, sequencer, broadcaster, presence, subscriptions, typing, calls, hub, tracing, logger } = options;
  const { bus } = cluster;
  const owing = warnsOnce(logger, "calls of other nodes are told later", "calls of other nodes are told at once again");
  const repair = warnsOnce(logger, "repair waits until the log answers", "repair goes on");

  function onTopicMessage(message: TopicMessage): void {
    if (message.kind === "logged") {
      const { event, epoch, exceptDevice, traceparent } = message;
      const span = traceparent === undefined || tracing === null ? null : tracing.beginDelivery(traceparent);
      const isHeard = sequencer.hear(event, { epoch, audience: { exceptDevice } });
      span?.end();
      if (!isHeard) return;
      subscriptions.noteLogged();
      return typing.noteMessage(event);
    }
    const { type, onlyDevice } = message;
    if (onlyDevice !== undefined && (message.isOwed || type === "call.incoming"))
      return hearOfCall({ ...message, onlyDevice });
    broadcaster.relay(message);
    if (message.topic.startsWith("typing:")) typing.heard(message);
    else typing.noteMessage(message);
  }

  /** It may be late, and the device have come here since: the registry says what is so [CALL4]. */
  function hearOfCall(message: TopicMessage & { kind: "ephemeral"; onlyDevice: string }): void {
    const { topic, payload, onlyDevice: deviceId, isOwed } = message;
    const { call_id: callId } = JSON.parse(payload) as ServerPayload<"call.incoming" | "call.ended">;
    const device = { userId: topic.slice(callsTopic("").length), deviceId };
    if (isOwed) return tellOwed({ ...device, callId });
    if (!broadcaster.reachesDevice(device)) return;
    void owing.attempt(calls.isOn(device, callId).then((isOn) => void (isOn && broadcaster.relay(message))));
  }

  /** Leaves a device that is not here to the node that has it, or gets it. */
  function tellOwed({ userId, deviceId, callId }: { userId: string; deviceId: string; callId: string }): void {
    const device = { userId, deviceId };
    if (broadcaster.reachesDevice(device)) void owing.attempt(calls.tellOwed(device, callId));
  }

  function onControlMessage(message: ControlMessage): void {
    for (const survey of options.surveys) survey.hear(message);
    if (message.kind === "owed") return tellOwed(message);
    if (message.kind === "replaced") closeReplaced(hub, message);
  }

  listenForLogBreaks(options);
  bus.onTopicMessage(onTopicMessage);
  bus.onControlMessage(onControlMessage);
  bus.onGap(() => {
    void repair.attempt(sequencer.repair());
    // Presence has no log: what was shown is compared with what is so.
    presence.recheckAll();
  });
}

/** Closes the connection of a device that has a newer one elsewhere. */
export function closeReplaced(hub: Hub, { userId, deviceId, connectionId }: DeviceRef): void {
  // Word of a newer one may come before this node has heard that the older one is known.
  const coming = hub.coming(connectionId);
  for (const connection of coming === undefined ? hub.find({ userId, deviceId, connectionId }) : [coming])
    connection.close(CloseCode.replaced, "replaced by the same device");
}
