/** Owns all conversations that this device knows: takes the news to each, follows those that somebody looks at, and keeps the newest on the device. */
import type { Clock, Core, News, OutboxEntry, Store, Unlisten } from "../core.ts";
import { ServerError } from "../errors.ts";
import { type Conversation, ConversationModel } from "./conversation.ts";
import { KeptConversations } from "./kept.ts";
import { ConversationList } from "./list.ts";
import { Marks } from "./marks.ts";
import { isOf } from "./message.ts";
import { areOther } from "./overlay.ts";
import { Questions } from "./questions.ts";
import { ConversationState, conversationOf, type KeptConversation } from "./state.ts";

/** How much is kept on the device. */
export interface Keep {
  /** Conversations, those with the newest messages; 200 where left out. */
  conversations?: number;
  /** Messages of each; 50 where left out. */
  messages?: number;
}

export interface ConversationsOptions {
  core: Core;
  clock: Clock;
  /** From 0 to below 1. */
  random: () => number;
  store: Store;
  keep?: Keep;
  onError(error: unknown): void;
}

/** In a list of so many it is shown who types; a connection has room for 10,000 topics in all [SUB4]. */
const typingMax = 1_000;

export class Conversations {
  readonly #options: ConversationsOptions;
  readonly #core: Core;
  readonly #states = new Map<string, ConversationState>();
  /** An application may hold one for long before it looks again, and there is one for each: until nobody has it any more. */
  readonly #models = new Map<string, WeakRef<ConversationModel>>();
  /** By state, of those that somebody looks at: nobody else need hold them. */
  readonly #looking = new Map<ConversationState, ConversationModel>();
  readonly #follows = new Map<ConversationState, Unlisten>();
  readonly #marks: Marks;
  readonly #kept: KeptConversations;
  readonly #questions: Questions;
  readonly list: ConversationList;
  /** News that has come while what is kept is still being read. */
  #news: News[] | null = [];
  #wasLive = false;
  #wasLead: boolean;

  constructor(options: ConversationsOptions) {
    const { core, keep = {} } = options;
    this.#options = options;
    this.#core = core;
    this.#wasLead = core.isLead;
    this.#marks = new Marks(options);
    this.#questions = new Questions(options);
    const { conversations = 200, messages = 50 } = keep;
    this.#kept = new KeptConversations(options.store, { conversations, messages });
    this.list = new ConversationList({ core, watched: (isWatched) => this.#followAll(isWatched) });
    core.onNews((news) => this.#takeNews(news));
    core.onState(() => this.#takeConnection());
    core.outbox.onChange(() => this.#takeOutbox());
    core.keep(this.#kept);
    void this.#load();
  }

  get(id: string): Conversation {
    const held = this.#held(id);
    if (held !== undefined) return held;
    const model = this.#model(this.#state(id));
    this.#models.set(id, new WeakRef(model));
    return model;
  }

  #model(state: ConversationState): ConversationModel {
    return new ConversationModel({
      ...this.#options,
      state,
      marks: this.#marks,
      look: (model) => this.#look(state, model),
      followAgain: () => this.#follows.has(state) && this.#followOne(state),
    });
  }

  #state(id: string): ConversationState {
    const held = this.#states.get(id);
    if (held !== undefined) return held;
    const { core, clock } = this.#options;
    const state = new ConversationState({ id, core, clock, onChange: (it) => this.#changed(it) });
    state.entries = core.outbox.entries.filter((entry) => entry.payload.conversation_id === id);
    this.#states.set(id, state);
    return state;
  }

  async #load(): Promise<void> {
    await this.#restore((kept) => kept);
    this.list.isLoaded = true;
    for (const news of this.#news ?? []) this.#take(news);
    this.#news = null;
    this.list.tell();
  }

  /** Takes up what is kept of conversations of which nothing is here. */
  async #restore(asItIs: (kept: KeptConversation) => KeptConversation): Promise<void> {
    const kept = await this.#kept.load().catch((error) => {
      this.#options.onError(error);
      return [];
    });
    for (const [id, conversation] of kept) {
      const state = this.#state(id);
      try {
        if (state.fold.fromSeq === null && !state.isRemoved) state.restore(asItIs(conversation));
      } catch (error) {
        this.#options.onError(error);
      }
    }
  }

  #takeNews(news: News): void {
    if (this.#news === null) this.#take(news);
    else this.#news.push(news);
  }

  #take(news: News): void {
    switch (news.kind) {
      case "event": {
        const { topic, payload } = news.event;
        const id = conversationOf(topic) ?? payload.conversation_id;
        if (typeof id === "string") this.#states.get(id)?.takeEvent(news.event);
        return;
      }
      case "subscribed":
        for (const topic of news.topics) {
          const id = conversationOf(topic.topic);
          if (id !== null) (this.#takesAll ? this.#state(id) : this.#states.get(id))?.takeSubscribed(topic);
        }
        return;
      case "unsubscribed":
        for (const topic of news.topics) this.#takeUnsubscribed(topic, news.reason === "access_revoked");
        return;
      case "gap":
        for (const topic of news.topics) if (isConversation(topic)) this.#stateOf(topic)?.takeGap();
        return;
      case "sent":
        return this.#states.get(news.entry.payload.conversation_id)?.takeSent(news.entry, news.ack);
      case "forgotten":
        return this.#forget();
    }
  }

  /** The tab that leads keeps what the others follow as well. */
  get #takesAll(): boolean {
    return this.list.isFollowed || this.#core.isLead;
  }

  #stateOf(topic: string): ConversationState | undefined {
    return this.#states.get(conversationOf(topic) ?? "");
  }

  #takeUnsubscribed(topic: string, isRevoked: boolean): void {
    const state = this.#stateOf(topic);
    if (isConversation(topic)) state?.takeUnsubscribed(isRevoked);
    else state?.clearTyping();
  }

  #forget(): void {
    this.#marks.forget();
    this.#kept.forget();
    for (const state of this.#states.values()) {
      state.forget();
      state.changed();
    }
    for (const [id, state] of this.#states) if (this.#held(id) === undefined) this.#drop(state);
  }

  #drop(state: ConversationState): void {
    this.#states.delete(state.id);
    this.#models.delete(state.id);
    this.#questions.drop(state);
    this.list.drop(state);
  }

  #takeConnection(): void {
    const isLive = this.#core.state.status === "live";
    if (this.#core.isLead && !this.#wasLead) void this.#lead();
    this.#wasLead = this.#core.isLead;
    if (isLive && !this.#wasLive) this.#leaveBehind();
    this.#wasLive = isLive;
    if (!isLive) for (const state of this.#states.values()) state.clearTyping();
    for (const model of this.#models.values()) model.deref()?.tell();
    this.list.tell();
    this.#questions.ask();
  }

  /** The tab that led has gone, and what it kept is this one's to go on with. */
  async #lead(): Promise<void> {
    for (const state of this.#states.values()) this.#kept.changed(state);
    // Of these this tab has passed over what was told since they were written.
    await this.#restore((kept) => ({ ...kept, isHeard: false }));
    if (this.#wasLive) this.#leaveBehind();
  }

  /** The cursor goes on without those that are not heard. */
  #leaveBehind(): void {
    if (!this.#core.isLead) return;
    for (const state of this.#states.values()) if (state.leaveBehind()) this.#kept.changed(state);
  }

  #takeOutbox(): void {
    const byId = new Map<string, OutboxEntry[]>();
    for (const entry of this.#core.outbox.entries) {
      if (this.#dropsFailed(entry)) continue;
      const id = entry.payload.conversation_id;
      byId.set(id, [...(byId.get(id) ?? []), entry]);
    }
    for (const [id, entries] of byId)
      if (areOther(this.#state(id).entries, entries)) this.#put(this.#state(id), entries);
    for (const state of this.#states.values())
      if (state.entries.length > 0 && !byId.has(state.id)) this.#put(state, []);
  }

  #put(state: ConversationState, entries: OutboxEntry[]): void {
    state.entries = entries;
    state.changed();
  }

  /** Gives up what was refused and is shown by nothing that could be tried again. */
  #dropsFailed(entry: OutboxEntry): boolean {
    if (entry.state !== "failed" || this.#isShown(entry)) return false;
    if (!this.#core.isLead) return true;
    const { code, message, field } = entry.error!;
    this.#options.onError(new ServerError({ code: code as ServerError["code"], message, field, retryable: false }));
    void this.#core.outbox.discard(entry.id);
    return true;
  }

  #isShown(entry: OutboxEntry): boolean {
    if (isOf(entry, "message.send")) return true;
    if (!isOf(entry, "message.edit", "message.delete")) return false;
    const { conversation_id, message_id } = entry.payload;
    return this.#news !== null || this.#state(conversation_id).fold.get(message_id) !== null;
  }

  #changed(state: ConversationState): void {
    if (this.#core.isLead) this.#kept.changed(state);
    this.list.put(state);
    this.#held(state.id)?.tell();
    if (!state.isHeard) return;
    const { othersSeq, deliveredSeq, unread, lacksLast } = state.fold;
    if (this.#core.isLead && othersSeq > Math.max(deliveredSeq, state.markedSeq)) {
      state.markedSeq = othersSeq;
      this.#marks.delivered(state.id, othersSeq);
    }
    if (unread === null || (lacksLast && !state.isLookedAt)) this.#questions.put(state);
  }

  #look(state: ConversationState, model: ConversationModel): Unlisten {
    this.#looking.set(state, model);
    state.isLookedAt = true;
    this.#followOne(state);
    return () => this.#leave(state);
  }

  #leave(state: ConversationState): void {
    this.#looking.delete(state);
    state.isLookedAt = false;
    this.#follows.get(state)?.();
    this.#follows.delete(state);
    state.fold.trim(this.#kept.messagesMax);
    this.#held(state.id)?.tell();
    this.#bound();
  }

  #followOne(state: ConversationState): void {
    const before = this.#follows.get(state);
    const { ready, stop } = this.#core.follow([state.topic, `typing:${state.id}`]);
    this.#follows.set(state, stop);
    before?.();
    ready.then(
      ({ rejected }) => {
        const code = rejected.find(({ topic }) => topic === state.topic)?.code;
        if (code === "limit_exceeded")
          this.#options.onError(
            new ServerError({ code, message: `${state.topic} is one too many.`, retryable: false }),
          );
        else if (code !== undefined) state.remove();
      },
      () => {},
    );
  }

  #followAll(isWatched: boolean): void {
    if (!isWatched) return this.#leaveAll();
    const { ready, stop } = this.#core.follow(["conversation"]);
    this.list.follow(stop);
    ready.then(
      ({ topics, rejected }) => {
        this.#takeAll(new Set(topics.map(({ topic }) => topic)), rejected.length === 0);
        if (this.list.isFollowed && topics.length <= typingMax) this.list.follow(this.#core.follow(["typing"]).stop);
      },
      () => {},
    );
  }

  /** @param isAll all of this user's are in the answer: one that is kept and not among them is the user's no more */
  #takeAll(topics: Set<string>, isAll: boolean): void {
    for (const state of isAll ? this.#states.values() : [])
      if (state.wasKept && !state.isHeard && !topics.has(state.topic)) state.remove();
    this.list.isWhole = true;
    this.list.tell();
  }

  #leaveAll(): void {
    this.list.leave();
    this.#bound();
  }

  /** Of those that nobody looks at as many stay as are kept, the newest; in the tab that leads all that any tab hears. */
  #bound(): void {
    for (const [id, model] of this.#models) if (model.deref() === undefined) this.#models.delete(id);
    if (this.list.isFollowed) return;
    const isNeeded = (state: ConversationState) =>
      this.#looking.has(state) || state.entries.length > 0 || (this.#core.isLead && state.isHeard);
    const idle = [...this.#states.values()].filter((state) => !isNeeded(state));
    const max = this.#kept.conversationsMax;
    if (idle.length <= max) return;
    for (const state of idle.sort((one, other) => (one.lastAt < other.lastAt ? 1 : -1)).slice(max)) {
      this.#kept.drop(state);
      const model = this.#held(state.id);
      if (model === undefined) this.#drop(state);
      else {
        state.forget();
        model.tell();
      }
    }
  }

  #held(id: string): ConversationModel | undefined {
    return this.#models.get(id)?.deref();
  }
}

const isConversation = (topic: string) => topic.startsWith("conversation:");
