/** Joins the parts of subscribing: who may, the manager, and what follows from a change of membership. */
import type { Config } from "../config/schema.ts";
import { Access, type AccessOptions } from "./access.ts";
import { SubscriptionManager, type SubscriptionManagerOptions } from "./manager.ts";
import { Membership, type MembershipOptions } from "./membership.ts";

export type SubscriptionsOptions = AccessOptions &
  Omit<SubscriptionManagerOptions, "access" | "onUnsubscribed"> &
  Pick<MembershipOptions, "subscribersOf" | "allSubscribers" | "watchMax"> & {
    /** Called for topics that a connection has left, or may not hear any more. */
    onLeft: MembershipOptions["onLost"];
  };

type Settings = Pick<Config, "presence" | "websocket" | "cluster" | "storage">;

export const subscriptionSettings = ({ presence, websocket, cluster, storage }: Settings) => ({
  topicsMax: websocket.max_topics_per_connection,
  watchMax: presence.watch_max,
  // The file of a node without a cluster is its own.
  isAlone: cluster.url === null && storage.url.startsWith("sqlite:"),
});

export function createSubscriptions(options: SubscriptionsOptions) {
  const access = new Access(options);
  const subscriptions = new SubscriptionManager({ ...options, access, onUnsubscribed: options.onLeft });
  const membership = new Membership({ ...options, access, subscriptions, onLost: options.onLeft });
  return { subscriptions, membership };
}
