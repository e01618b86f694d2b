/** Shows who is here: of each user how it was told last, as long as somebody looks [PRE1] [PRE3] [PRE5]. */
import type { Core, News, Subscribed, SubscribedTopic, Unlisten } from "./core.ts";
import { LiveValue } from "./ground/live.ts";

/** How a user is to be seen. Never changed in place. */
export interface Presence {
  /** `invisible` is only ever oneself. */
  readonly status: "online" | "away" | "busy" | "offline" | "invisible";
  readonly statusText: string | null;
  readonly statusEmoji: string | null;
  /** RFC 3339, UTC: when an offline one was last there, where that is known. */
  readonly lastSeen: string | null;
}

/** A status that is set by hand stands until it is changed; a field that is left out stays as it was, and null clears it [PRE2]. */
export interface OwnPresence {
  status: "online" | "away" | "busy" | "invisible";
  /** At most 100 characters. */
  statusText?: string | null;
  statusEmoji?: string | null;
  /** RFC 3339: when it ends by itself. */
  expiresAt?: string | null;
  /** Not by hand: this device's own idle detection speaks, and only of this device. */
  automatic?: boolean;
}

interface Watched {
  presence: Presence | null;
  views: Set<PresenceView>;
}

type Told = NonNullable<NonNullable<SubscribedTopic["snapshot"]>["presence"]>;

const offline: Presence = { status: "offline", statusText: null, statusEmoji: null, lastSeen: null };

/** All whose presence is looked at here. */
export class PresenceBook {
  readonly #core: Core;
  readonly #watched = new Map<string, Watched>();
  readonly #refused = new Set<string>();

  constructor(core: Core) {
    this.#core = core;
  }

  view(userIds: readonly string[]): PresenceView {
    return new PresenceView(this, [...new Set(userIds)]);
  }

  set({ status, statusText, statusEmoji, expiresAt, automatic }: OwnPresence): Promise<unknown> {
    const rest = { status_text: statusText, status_emoji: statusEmoji, expires_at: expiresAt, automatic };
    return this.#core.request("presence.update", { status, ...rest });
  }

  of(userId: string): Presence | null {
    return this.#watched.get(userId)?.presence ?? null;
  }

  follow(view: PresenceView): Unlisten {
    for (const userId of view.userIds) {
      const watched = this.#watched.get(userId) ?? { presence: null, views: new Set() };
      this.#watched.set(userId, watched.views.add(view) && watched);
    }
    if (view.userIds.length === 0) return () => {};
    const { ready, stop } = this.#core.follow(view.userIds.map((userId) => `presence:${userId}`));
    // The same request may have had this user join what they share: asked once more.
    this.#noteRefused(ready, () => this.#askAgain());
    return () => {
      stop();
      for (const userId of view.userIds) {
        const watched = this.#watched.get(userId);
        watched?.views.delete(view);
        if (watched?.views.size === 0) this.#watched.delete(userId);
      }
    };
  }

  /** Somebody whom one may not see looks as if gone. */
  #noteRefused(ready: Promise<Subscribed>, andThen: () => void = () => {}): void {
    ready.then(
      ({ rejected }) => {
        const users = rejected.map(({ topic }) => userOf(topic));
        for (const userId of users) {
          this.#show(userId, offline);
          this.#refused.add(userId);
        }
        if (users.length > 0) andThen();
      },
      () => {},
    );
  }

  /** Asks for those who could not be seen: a conversation that both are in is new. */
  #askAgain(): void {
    const users = [...this.#refused].filter((userId) => this.#watched.has(userId));
    this.#refused.clear();
    if (users.length === 0) return;
    const { ready, stop } = this.#core.follow(users.map((userId) => `presence:${userId}`));
    this.#noteRefused(ready.finally(stop));
  }

  take(news: News): void {
    if (isOfSharing(news)) this.#askAgain();
    if (news.kind === "event") this.#takeEvent(news.event.type, news.event.payload);
    else if (news.kind === "subscribed") for (const topic of news.topics) this.#takeSnapshot(topic);
    else if (news.kind === "unsubscribed" && news.reason === "access_revoked")
      for (const topic of news.topics) if (isPresence(topic)) this.#show(userOf(topic), offline);
    if (news.kind === "forgotten") for (const userId of this.#watched.keys()) this.#show(userId, null);
  }

  #takeEvent(type: string, payload: object): void {
    const told = payload as Told;
    if (type === "presence.online" || type === "presence.update") this.#show(told.user_id, presenceOf(told));
    if (type === "presence.offline") this.#show(told.user_id, { ...offline, lastSeen: told.last_seen ?? null });
  }

  #takeSnapshot({ topic, snapshot }: SubscribedTopic): void {
    if (isPresence(topic) && snapshot?.presence !== undefined) this.#show(userOf(topic), presenceOf(snapshot.presence));
  }

  #show(userId: string, presence: Presence | null): void {
    const watched = this.#watched.get(userId);
    if (watched === undefined) return;
    watched.presence = presence;
    for (const view of watched.views) view.tell();
  }
}

/** Some users' presence; one of whom nothing has been told yet is not in it. */
export class PresenceView extends LiveValue<ReadonlyMap<string, Presence>> {
  readonly userIds: readonly string[];
  readonly #book: PresenceBook;
  #leave: Unlisten | null = null;

  constructor(book: PresenceBook, userIds: readonly string[]) {
    super();
    this.#book = book;
    this.userIds = userIds;
  }

  tell(): void {
    this.changed();
  }

  protected make(): ReadonlyMap<string, Presence> {
    const known = this.userIds.map((userId) => [userId, this.#book.of(userId)] as const);
    return new Map(known.filter((it): it is [string, Presence] => it[1] !== null));
  }

  protected override watched(isWatched: boolean): void {
    if (isWatched) this.#leave = this.#book.follow(this);
    else this.#leave?.();
  }
}

/** Whether it may mean that this user shares a conversation with somebody else now. */
const isOfSharing = (news: News) =>
  (news.kind === "event" && news.event.type === "member.added") ||
  (news.kind === "subscribed" && news.topics.some(({ topic }) => topic.startsWith("conversation:")));

const isPresence = (topic: string) => topic.startsWith("presence:");
const userOf = (topic: string) => topic.slice("presence:".length);

function presenceOf({ status, status_text, status_emoji, last_seen }: Partial<Told> & Pick<Told, "status">): Presence {
  return {
    status,
    statusText: status_text ?? null,
    statusEmoji: status_emoji ?? null,
    lastSeen: last_seen ?? null,
  };
}
