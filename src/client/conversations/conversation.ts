/** Shows one conversation, and does in it what the user does: shown at once, sent when it can be [MSG1] [MSG2] [MSG3] [REC1]. */
import type { Clock, Core, OutboxEntry, Unlisten } from "../core.ts";
import { ClientError } from "../errors.ts";
import { newId } from "../ground/ids.ts";
import { type Live, LiveValue } from "../ground/live.ts";
import type { Content, JsonObject } from "../wire.ts";
import { Filling } from "./filling.ts";
import type { Receipt } from "./fold.ts";
import type { Marks } from "./marks.ts";
import { isOf, type Message } from "./message.ts";
import { overlaid, readOf } from "./overlay.ts";
import type { ConversationState } from "./state.ts";
import { OwnTyping, type Typing } from "./typing.ts";

/** How a conversation is now. */
export interface ConversationView {
  readonly id: string;
  /**
   * `loading`: nothing is here yet. `kept`: as it was when it was last heard. `live`: as it is. `removed`: this user may not hear it, or not
   * any more.
   */
  readonly status: "loading" | "kept" | "live" | "removed";
  /** Oldest first, without a gap; what waits to be sent stands at the end. */
  readonly messages: readonly Message[];
  /** Messages of others that are not read. */
  readonly unread: number;
  /** How far this user has read. */
  readonly readSeq: number;
  /** False: this user is kept from writing, and only reads [MSG5]. */
  readonly mayWrite: boolean;
  /** The others who type now. */
  readonly typing: readonly string[];
  /** Null until `loadMembers`; kept up to date from then on. */
  readonly members: readonly string[] | null;
  /** There is more to be had by `loadOlder`. */
  readonly hasOlder: boolean;
  readonly isLoadingOlder: boolean;
  /** How far the others have come; empty where there are too many to be told. */
  readonly receipts: readonly Receipt[];
}

/** A conversation. It is followed while somebody is subscribed to it. */
export interface Conversation<Events extends object = Record<string, JsonObject>> extends Live<ConversationView> {
  readonly id: string;
  readonly typing: Typing;
  /**
   * Shows the message at once and sends it as soon as it can, once, also after a reload.
   * @returns as it is shown then, `pending`, once it is kept on the device
   * @throws TypeError where it is an empty text, or neither text nor object; ClientError `outbox_full`, and `stopped` after `signOut`
   */
  send(content: Content): Promise<Message>;
  /**
   * Changes one's own message. @param id of a `Message`, also of one that is pending
   * @throws as `send` does, and ClientError `forbidden` where it is known to be another's
   */
  edit(id: string, content: Content): Promise<void>;
  /** Takes one's own message back: of nobody's text anything is left. One that has not left yet is never sent. */
  delete(id: string): Promise<void>;
  /** @param reaction 1–64 bytes, such as an emoji @param on false: takes it back */
  react(id: string, reaction: string, on?: boolean): Promise<void>;
  /** Tries again what was refused: the message itself, or its edit or deletion. */
  retry(id: string): Promise<void>;
  /** Gives up what was refused: the message goes, or is again as it was. */
  discard(id: string): Promise<void>;
  /** Loads a page of what was before. @throws ServerError, ClientError `timeout` where there is no connection */
  loadOlder(): Promise<void>;
  /** Forgets what is here of it and loads it anew. What waits to be sent stays. */
  reload(): void;
  /**
   * Says that the user has seen everything up to a message. Called as often as one likes: the server is told twice a second at most.
   * @param upTo the message's `seq`; left out: everything that is here @param options `private`: only this user's own devices are told
   */
  markRead(upTo?: number, options?: { private?: boolean }): void;
  /** Lists the others that a message has reached, and those who have read it. */
  receiptsOf(message: Message): { delivered: string[]; read: string[] };
  /** Loads who is in it, and follows that from then on. @throws ServerError, ClientError */
  loadMembers(): Promise<readonly string[]>;
  /**
   * Sends an event of the application's own [MSG4]. With `clientEventId` it is written down and sent as a message is; without, it is sent now.
   * @throws ServerError, ClientError
   */
  sendEvent<T extends keyof Events & string>(
    type: T,
    payload: Events[T],
    options?: { clientEventId?: string },
  ): Promise<void>;
}

export interface ConversationOptions {
  state: ConversationState;
  core: Core;
  clock: Clock;
  random: () => number;
  marks: Marks;
  /** Follows it, and has its changes told to this one, while somebody looks. */
  look(model: ConversationModel): Unlisten;
  followAgain(state: ConversationState): void;
  onError(error: unknown): void;
}

export class ConversationModel extends LiveValue<ConversationView> implements Conversation {
  readonly id: string;
  readonly #own: OwnTyping;
  readonly #options: ConversationOptions;
  readonly #filling: Filling;
  #leave: Unlisten | null = null;

  constructor(options: ConversationOptions) {
    super();
    this.#options = options;
    this.id = options.state.id;
    this.#own = new OwnTyping({ ...options, conversationId: this.id });
    this.#filling = new Filling({ ...options, onChange: () => this.tell() });
  }

  get typing(): Typing {
    return this.#own;
  }

  async send(content: Content): Promise<Message> {
    checkContent(content);
    const { core } = this.#options;
    this.#own.sent();
    const client_message_id = newId();
    const payload = { conversation_id: this.id, client_message_id, content };
    const entry = await core.outbox.add("message.send", payload, client_message_id);
    const isIt = ({ isOwn, clientMessageId }: Message) => isOwn && clientMessageId === entry.id;
    // To a tab that does not lead the outbox is told a moment later.
    const shown = { conversationId: this.id, userId: core.userId };
    return this.#options.state.messages().findLast(isIt) ?? overlaid([], [entry], shown)[0]!;
  }

  async edit(id: string, content: Content): Promise<void> {
    const { state, core } = this.#options;
    const { outbox } = core;
    checkContent(content);
    // It would be shown with this user's words until the server has refused it.
    if (state.fold.get(id)?.isOwn === false)
      throw new ClientError("forbidden", { message: "This is another's to do." });
    const sending = this.#sending(id);
    if (sending !== null && (await outbox.replace(sending.id, { content }))) return outbox.retry(sending.id);
    await outbox.add("message.edit", { conversation_id: this.id, message_id: await this.#placed(id), content });
  }

  async delete(id: string): Promise<void> {
    const { outbox } = this.#options.core;
    const sending = this.#sending(id);
    // Asked by putting the same in its place: whether it has left only the outbox knows.
    const isHere = sending !== null && (sending.state === "failed" || (await outbox.replace(sending.id, {})));
    if (isHere) return outbox.discard(sending.id);
    await outbox.add("message.delete", { conversation_id: this.id, message_id: await this.#placed(id) });
  }

  async react(id: string, reaction: string, on = true): Promise<void> {
    const payload = { conversation_id: this.id, message_id: await this.#placed(id), reaction };
    await this.#options.core.outbox.add(on ? "reaction.add" : "reaction.remove", payload);
  }

  async retry(id: string): Promise<void> {
    await Promise.all(this.#failed(id).map((entry) => this.#options.core.outbox.retry(entry.id)));
  }

  async discard(id: string): Promise<void> {
    await Promise.all(this.#failed(id).map((entry) => this.#options.core.outbox.discard(entry.id)));
  }

  loadOlder(): Promise<void> {
    return this.#filling.loadOlder();
  }

  reload(): void {
    this.#filling.reload();
  }

  markRead(upTo?: number, options: { private?: boolean } = {}): void {
    const { state, marks } = this.#options;
    const seq = upTo ?? state.fold.last?.seq ?? 0;
    if (seq <= this.#readSeq()) return;
    marks.read(this.id, { seq, isPrivate: options.private ?? false });
    state.changed();
  }

  receiptsOf({ seq, senderId }: Message): { delivered: string[]; read: string[] } {
    if (seq === null) return { delivered: [], read: [] };
    const others = this.#options.state.fold.receipts.filter(({ userId }) => userId !== senderId);
    const namesOf = (receipts: Receipt[]) => receipts.map(({ userId }) => userId);
    return {
      delivered: namesOf(others.filter(({ deliveredSeq }) => deliveredSeq >= seq)),
      read: namesOf(others.filter(({ readSeq }) => readSeq >= seq)),
    };
  }

  async loadMembers(): Promise<readonly string[]> {
    return this.#filling.loadMembers();
  }

  async sendEvent(type: string, data: JsonObject, { clientEventId }: { clientEventId?: string } = {}): Promise<void> {
    const { core } = this.#options;
    const payload = { conversation_id: this.id, type, payload: data };
    if (clientEventId === undefined) await core.request("event.send", payload);
    else await core.outbox.add("event.send", { ...payload, client_event_id: clientEventId }, clientEventId);
  }

  /** The state is another. */
  tell(): void {
    this.changed();
    if (this.#leave !== null) this.#filling.look();
  }

  protected make(): ConversationView {
    const { state, core } = this.#options;
    const { fold } = state;
    const isFilled = fold.fromSeq !== null && this.#filling.isFilled;
    return {
      id: this.id,
      status: state.isRemoved
        ? "removed"
        : !isFilled
          ? "loading"
          : state.isWhole && core.state.status === "live"
            ? "live"
            : "kept",
      messages: state.messages(),
      unread: fold.guessUnread(this.#readSeq()),
      readSeq: this.#readSeq(),
      mayWrite: state.mayWrite,
      typing: state.typing,
      members: state.members === null ? null : [...state.members],
      hasOlder: fold.fromSeq !== 0 && !state.isRemoved,
      isLoadingOlder: this.#filling.isLoadingOlder,
      receipts: fold.receipts,
    };
  }

  protected override watched(isWatched: boolean): void {
    if (isWatched) {
      this.#leave = this.#options.look(this);
      this.#filling.look();
    } else {
      this.#leave?.();
      this.#leave = null;
      this.#filling.leave();
    }
  }

  #readSeq(): number {
    const { state, marks } = this.#options;
    return Math.max(state.fold.readSeq, readOf(state.entries), marks.readSeqOf(this.id));
  }

  /** The entry of a message that the server is not known to have. */
  #sending(id: string): OutboxEntry | null {
    return this.#options.state.entries.find((entry) => isOf(entry, "message.send") && entry.id === id) ?? null;
  }

  #failed(id: string): OutboxEntry[] {
    return this.#options.state.entries.filter(({ id: entryId, state, payload }) => {
      const { message_id } = payload as { message_id?: string };
      return state === "failed" && (entryId === id || message_id === id);
    });
  }

  /** Waits until a message on its way has its place. @returns its `message_id` */
  #placed(id: string): Promise<string> {
    const { state } = this.#options;
    const wasSending = this.#sending(id) !== null;
    return new Promise((resolve, reject) => {
      const look = () => {
        const sending = this.#sending(id);
        const message = state.fold.get(id) ?? state.fold.sent(id);
        if (message !== null) resolve(message.id);
        else if (sending?.state === "pending") state.onNext(look);
        // It was given up, or refused; one that is not loaded may be there all the same.
        else if (wasSending) reject(new ClientError("invalid_payload", { message: "It was not sent." }));
        else resolve(id);
      };
      look();
    });
  }
}

/** @throws TypeError */
function checkContent(content: unknown): void {
  const isObject = typeof content === "object" && content !== null && !Array.isArray(content);
  if (!isObject && (typeof content !== "string" || content === ""))
    throw new TypeError("The content must be a text that is not empty, or an object.");
}
