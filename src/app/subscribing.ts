/** Composes who hears which topic: subscriptions, and what follows from a change of membership. */
import { nextTurn } from "../ground/next-turn.ts";
import { realTimers } from "../ground/timers.ts";
import { everyoneTopic } from "../protocol/topic.ts";
import { MemberNews } from "../subscription/member-news.ts";
import { createSnapshots, listBytesMax } from "../subscription/snapshots.ts";
import { createSubscriptions, subscriptionSettings } from "../subscription/subscriptions.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import { DirectoryListener } from "../websocket/directory-listener.ts";
import { bufferBytesMax } from "../websocket/server.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Calls } from "./calls.ts";
import type { Foundation } from "./foundation.ts";
import type { Messaging } from "./messaging.ts";
import type { Presence } from "./presence.ts";
import type { Pushing } from "./push.ts";
import type { Sockets } from "./sockets.ts";

export type Subscribing = PartsOf<typeof composeSubscribing>;

export function composeSubscribing(
  { config, logger, now }: Base,
  parts: Foundation & Sockets & Messaging & Presence & Pushing & Calls,
) {
  const { storage, cluster, directory, publisher, broadcaster, presence, typing, push, calls, hub, tell } = parts;
  const resending = warnsOnce(logger, "calls not re-sent", "calls are re-sent again");
  const { subscriptions, membership } = createSubscriptions({
    ...parts,
    ...subscriptionSettings(config),
    log: storage.log,
    cursors: storage.cursors,
    bus: cluster.bus,
    snapshots: createSnapshots({
      questions: parts.questions,
      overviews: storage.overviews,
      directory,
      typing,
      presence,
      calls,
      listBytesMax: listBytesMax(bufferBytesMax(config.websocket)),
    }),
    onMissedWanted: () => push.want(),
    onSubscribed({ userId, deviceId }, topics) {
      if (!topics.some(({ kind }) => kind === "calls")) return;
      // Calls that ring come after `subscribed`, which is said in this turn.
      void resending.attempt(calls.deviceConnected({ userId, deviceId }, nextTurn));
    },
    onLeft(subscriber, topics) {
      const left = topics.flatMap(({ kind, key }) => (kind === "typing" || kind === "conversation" ? [key] : []));
      if (left.length > 0) typing.stopAll(subscriber, left);
    },
    subscribersOf: (userId) => hub.ofUser(userId),
    allSubscribers: () => [...hub.all()].filter((it) => it.isAuthenticated),
    logger,
  });
  publisher.onAppended(() => subscriptions.noteLogged());
  const subscribersOf = (userId: string) => hub.ofUser(userId);
  const news = new MemberNews({ broadcaster, subscribersOf, tell, timers: realTimers, now });
  const view = directory;
  const following = { view, directory: storage.directory, membership, news, hub, timers: realTimers, now, logger };
  const directoryListener = new DirectoryListener(following);
  const isWanted = (topic: string) =>
    topic === everyoneTopic || broadcaster.subscriberCount(topic) > 0 || typing.follows(topic);
  return {
    parts: { subscriptions, membership },
    async start() {
      directoryListener.start();
      // Everybody hears it, so it is not asked for by anybody.
      await cluster.bus.watch(everyoneTopic);
    },
    stop: async () => directoryListener.stop(),
    sweep: () => cluster.bus.sweep(isWanted),
  } satisfies Area;
}
