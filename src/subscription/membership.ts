/** Brings live connections in line with changes of membership, within the second that the directory takes [SUB3]. */

import type { Sequencer } from "../broadcast/sequencer.ts";
import type { DirectoryView } from "../directory/directory.ts";
import { pages } from "../ground/pages.ts";
import { conversationTopic, parseTopic, presenceTopic, type Topic, topicOf, typingTopic } from "../protocol/topic.ts";
import type { DirectoryChange } from "../storage/directory-store.ts";
import { type Access, isBackend } from "./access.ts";
import type { SubscriptionManager } from "./manager.ts";
import { peersMax } from "./scope.ts";
import type { Subscriber } from "./subscriber.ts";

export interface MembershipOptions {
  directory: DirectoryView;
  sequencer: Pick<Sequencer, "isHeard">;
  access: Access;
  subscriptions: SubscriptionManager;
  /** This node's connections of a user. */
  subscribersOf: (userId: string) => Iterable<Subscriber>;
  allSubscribers: () => Iterable<Subscriber>;
  /** Conversations with more members are not watched by their id. */
  watchMax: number;
  /** Called for a connection that lost its right to topics, whether it was on them or not. */
  onLost: (subscriber: Subscriber, topics: Topic[]) => void;
}

type MembersOf = (conversationId: string) => Promise<string[]>;

/** Connections that are looked at again at once. */
const atOnce = 64;

export class Membership {
  constructor(private readonly options: MembershipOptions) {}

  /** Whether anything on this node depends on who is in the conversation, as far as the user goes. */
  concerns({ conversationId, userId }: { conversationId: string; userId: string }): boolean {
    const { sequencer, subscribersOf, subscriptions } = this.options;
    if (sequencer.isHeard(conversationTopic(conversationId))) return true;
    for (const _ of subscribersOf(userId)) return true;
    for (const _ of subscriptions.presenceFollowers) return true;
    return sequencer.isHeard(presenceTopic(userId));
  }

  /** Takes what is given as so: the caller has asked the directory. */
  async apply(change: DirectoryChange): Promise<void> {
    switch (change.kind) {
      case "member_added":
        return this.#added(change.conversationId, change.userId);
      case "member_removed":
        this.options.subscriptions.noteRightsLost(change.userId);
        return this.#removed(change.conversationId, change.userId);
      case "resync":
        this.options.subscriptions.noteRightsLost(null);
        return this.#recheckAll();
      case "member_updated":
      case "user_changed":
        return;
    }
  }

  /** A member is kept from writing: what it has begun on this node ends with that [MSG5]. */
  muted({ conversationId, userId }: { conversationId: string; userId: string }): void {
    const { onLost, subscribersOf } = this.options;
    for (const subscriber of subscribersOf(userId)) onLost(subscriber, [topicOf("typing", conversationId)]);
  }

  /** A connection's rights were decided anew: it leaves what they do not allow any more, what is under way too [AUTH3]. */
  async recheck(subscriber: Subscriber): Promise<void> {
    const { access, subscriptions } = this.options;
    subscriptions.noteRightsLost(subscriber.userId);
    const topics = subscriber.topics().flatMap((name) => parseTopic(name) ?? []);
    const allowed = new Set(await access.allowed(subscriber, topics, { unasked: true }));
    const lost = topics.filter((topic) => !allowed.has(topic)).map(({ name }) => name);
    subscriptions.revoke(subscriber, lost);
  }

  async #added(conversationId: string, userId: string): Promise<void> {
    const { directory, subscriptions, subscribersOf, watchMax } = this.options;
    const newcomers = [...subscribersOf(userId)];
    // Asks for its members only where it matters: large conversations grow one member at a time.
    const members = newcomers.some(({ follows }) => follows?.presence || follows?.presenceOf.has(conversationId))
      ? await directory.membersOf(conversationId, peersMax)
      : [];
    const others = members.filter((member) => member !== userId);
    const isWatched = members.length <= watchMax;
    const concerned = await this.#concerned(conversationId, userId);
    // All at once: whoever is slow to take a replay keeps nobody else waiting.
    await Promise.all([
      ...newcomers.map((subscriber) =>
        subscriptions.join(subscriber, ({ conversations, typing, presence, presenceOf }) => [
          ...(conversations ? [conversationTopic(conversationId)] : []),
          ...(typing ? [typingTopic(conversationId)] : []),
          ...(presence || (isWatched && presenceOf.has(conversationId)) ? others.map(presenceTopic) : []),
        ]),
      ),
      ...concerned.map((follower) =>
        subscriptions.join(follower, ({ presence, presenceOf }) =>
          presence || presenceOf.has(conversationId) ? [presenceTopic(userId)] : [],
        ),
      ),
    ]);
  }

  /** Connections that are to hear of the presence of a conversation's new member. */
  async #concerned(conversationId: string, newMember: string): Promise<Subscriber[]> {
    const followers = [...this.options.subscriptions.presenceFollowers].filter(
      ({ userId, follows }) => userId !== newMember && (follows?.presence || follows?.presenceOf.has(conversationId)),
    );
    // Somebody who has left it, or never was in it, does not learn who comes.
    return this.options.access.listenersAmong(followers, conversationId);
  }

  async #removed(conversationId: string, userId: string): Promise<void> {
    const { directory, onLost, sequencer, subscribersOf, subscriptions } = this.options;
    const losers = [...subscribersOf(userId)];
    // All of them before anybody is asked: a change that comes right after may give the right back.
    for (const subscriber of losers) {
      subscriptions.revoke(subscriber, [conversationTopic(conversationId), typingTopic(conversationId)]);
      // Typing needs no subscription; it ends with the right to it all the same [TYP2].
      onLost(subscriber, [topicOf("typing", conversationId)]);
    }
    await Promise.all(losers.map((subscriber) => this.#recheckPresence(subscriber)));
    // Large conversations lose their members one at a time, and mostly nobody here follows them.
    if (!sequencer.isHeard(presenceTopic(userId))) return;
    const followers = (await directory.membersOf(conversationId))
      .flatMap((member) => [...subscribersOf(member)])
      .filter((subscriber) => subscriber.isSubscribed(presenceTopic(userId)));
    const strangers = new Set(
      await this.options.access.strangers(userId, [...new Set(followers.map((follower) => follower.userId))]),
    );
    for (const follower of followers) {
      if (strangers.has(follower.userId)) subscriptions.revoke(follower, [presenceTopic(userId)]);
    }
  }

  async #recheckPresence(subscriber: Subscriber): Promise<void> {
    const others = subscriber
      .topics()
      .flatMap((name) => (name.startsWith("presence:") ? [name.slice("presence:".length)] : []));
    const hidden = await this.options.access.strangers(subscriber.userId, others);
    this.options.subscriptions.revoke(subscriber, hidden.map(presenceTopic));
  }

  /** Changes may have been missed: everything that connections are on, or follow, is looked at again. */
  async #recheckAll(): Promise<void> {
    const joins: (() => Promise<void>)[] = [];
    const asked = new Map<string, Promise<string[]>>();
    const { directory, watchMax } = this.options;
    const membersOf: MembersOf = (conversationId) => {
      const members = asked.get(conversationId) ?? directory.membersOf(conversationId, watchMax);
      asked.set(conversationId, members);
      return members;
    };
    for (const page of pages([...this.options.allSubscribers()], atOnce)) {
      joins.push(...(await Promise.all(page.map((subscriber) => this.#recheck(subscriber, membersOf)))));
    }
    await Promise.all(joins.map((join) => join()));
  }

  /** @returns what joins the topics that the connection should be on */
  async #recheck(subscriber: Subscriber, membersOf: MembersOf): Promise<() => Promise<void>> {
    const { directory, subscriptions } = this.options;
    // Before the directory is asked: what is subscribed to meanwhile is newer than its answer.
    const topics = subscriber.topics();
    const conversations = new Set(await directory.conversationsOf(subscriber.userId));
    const lost = topics.filter((name) => {
      const topic = parseTopic(name);
      return (topic?.kind === "conversation" || topic?.kind === "typing") && !conversations.has(topic.key);
    });
    subscriptions.revoke(subscriber, lost);
    await this.#recheckPresence(subscriber);
    const peers = subscriber.follows?.presence ? await directory.peersOf(subscriber.userId, peersMax) : [];
    const members = new Map<string, string[]>();
    const watched = subscriber.follows?.presenceOf ?? new Set<string>();
    for (const conversationId of isBackend(subscriber) ? watched : conversations.intersection(watched)) {
      members.set(conversationId, await membersOf(conversationId));
    }
    const othersIn = (conversationId: string) =>
      (members.get(conversationId) ?? []).filter((member) => member !== subscriber.userId);
    return () =>
      subscriptions.join(subscriber, (follows) => [
        ...(follows.conversations ? [...conversations].map(conversationTopic) : []),
        ...(follows.typing ? [...conversations].map(typingTopic) : []),
        ...(follows.presence ? peers : [...follows.presenceOf].flatMap(othersIn)).map(presenceTopic),
      ]);
  }
}
