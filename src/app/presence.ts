/** Composes who is there and who types. */
import type { Audience } from "../broadcast/broadcaster.ts";
import { type Cause, PresenceTracker } from "../presence/tracker.ts";
import { TypingTracker } from "../presence/typing.ts";
import { presenceTopic } from "../protocol/topic.ts";
import { closeReplaced } from "../websocket/bus-listener.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Foundation } from "./foundation.ts";
import type { Messaging } from "./messaging.ts";
import type { Sockets } from "./sockets.ts";

export type Presence = PartsOf<typeof composePresence>;

export function composePresence({ config, logger, now }: Base, parts: Foundation & Sockets & Messaging) {
  const { storage, cluster, hub, broadcaster, publisher, tell } = parts;
  /** Leaves out the connection that caused a change, where it is on this node. */
  const exceptOf = (cause?: Cause): Audience => (cause === undefined ? {} : { except: hub.find(cause)[0] });
  const presence = new PresenceTracker({
    registry: cluster.presence,
    statuses: storage.statuses,
    show: (userId, message, cause) =>
      void broadcaster.toTopic(presenceTopic(userId), message, { ...exceptOf(cause), reach: "here" }),
    showOne(asker, userId, { type, payload }) {
      const [connection] = hub.find(asker);
      if (connection?.topics().includes(presenceTopic(userId))) tell(connection, type, payload);
    },
    tellOwnDevices: (userId, message, cause) =>
      void broadcaster.toUser(userId, message, { ...exceptOf(cause), reach: "here" }),
    watchersOf: (userId) => broadcaster.subscriberCount(presenceTopic(userId)),
    onSuperseded: (device) => closeReplaced(hub, device),
    settings: config.presence,
    logger,
  });
  const typing = new TypingTracker({
    publish: (topic, event, audience) => void broadcaster.toTopic(topic, event, audience),
    publishHere: (topic, event) => void broadcaster.toTopic(topic, event, { reach: "here" }),
    follow: (topic) => void cluster.bus.watch(topic),
    settings: config.typing,
    now,
  });
  publisher.onAppended((event) => typing.noteMessage(event));
  // The bus may have lost it.
  broadcaster.onPublished((event) => typing.noteMessage(event));
  return {
    parts: { presence, typing },
    async start() {
      presence.start();
    },
    async stop() {
      typing.stop();
      await presence.stop();
    },
    sweep: () => presence.forgetUnwatched(),
  } satisfies Area;
}
