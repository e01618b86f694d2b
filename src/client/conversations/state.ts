/** Holds what this device knows of one conversation, and whether that is without a gap: it takes the news, and says what is still to be asked. */
import type { Clock, Core, OutboxEntry, ServerEvent, SubscribedTopic } from "../core.ts";
import type { ServerPayloads } from "../wire.ts";
import { Fold, type KeptFold } from "./fold.ts";
import type { LoggedEvent, Message } from "./message.ts";
import { overlaid } from "./overlay.ts";
import { TypingUsers } from "./typing.ts";

/** Events that are put aside until it is known whether something is missing before them: those that a snapshot on its way may lack. */
const asideMax = 200;

const nobody: readonly string[] = [];

/** A conversation as it is kept on the device. */
export interface KeptConversation extends KeptFold {
  mayWrite: boolean;
  /** It was heard up to the cursor that was written with it. */
  isHeard: boolean;
}

export interface StateOptions {
  id: string;
  core: Core;
  clock: Clock;
  onChange(state: ConversationState): void;
}

export class ConversationState {
  readonly id: string;
  readonly fold: Fold;
  /** Once they have been asked for. */
  members: ReadonlySet<string> | null = null;
  /** They may have changed unheard: to be asked again. */
  areMembersOld = false;
  /** How often members were told of. */
  membersTold = 0;
  /** Up to here it was asked to be marked as delivered. */
  markedSeq = 0;
  /** As long as somebody looks at it what is missing is read; else what is there is forgotten. */
  isLookedAt = false;
  #entries: readonly OutboxEntry[] = [];
  #isRemoved = false;
  #wasKept = false;
  #waiting: (() => void)[] = [];
  #mayWrite = true;
  /** Nothing is missed from here on. */
  #isHeard = false;
  /** Everything that is held was heard up to the cursor that the connection came back with. */
  #wasHeard = false;
  /** While it is not heard: up to here nothing is missing, and what came after it. */
  #sureSeq = 0;
  #aside: LoggedEvent[] = [];
  #holeAfter: number | null = null;
  /** Made for the first who types: in most conversations nobody does. */
  #typing: TypingUsers | null = null;
  readonly #clock: Clock;
  readonly #core: Core;
  readonly #onChange: (state: ConversationState) => void;

  constructor({ id, core, clock, onChange }: StateOptions) {
    this.id = id;
    this.#core = core;
    this.#onChange = onChange;
    this.fold = new Fold(core);
    this.#clock = clock;
  }

  get topic(): string {
    return `conversation:${this.id}`;
  }

  /** Lists what waits in the outbox. */
  get entries(): readonly OutboxEntry[] {
    return this.#entries;
  }

  set entries(entries: readonly OutboxEntry[]) {
    const isSending = (all: readonly OutboxEntry[]) => all.some(({ type }) => type === "message.send");
    // Others may change a message before this device is told where it stands.
    if (isSending(entries) !== isSending(this.#entries)) this.fold.expect(isSending(entries) ? 1 : -1);
    this.#entries = entries;
  }

  /** The user is no member any more, or never was. */
  get isRemoved(): boolean {
    return this.#isRemoved;
  }

  get mayWrite(): boolean {
    return this.#mayWrite && !this.#isRemoved;
  }

  /** It was here before there was a connection. */
  get wasKept(): boolean {
    return this.#wasKept;
  }

  /** The others who type now. */
  get typing(): readonly string[] {
    return this.#typing?.current ?? nobody;
  }

  /** There is no connection that would tell when they end. */
  clearTyping(): void {
    this.#typing?.clear();
  }

  /** Everything that happens is heard, and nothing is missing before it. */
  get isWhole(): boolean {
    return this.#isHeard && this.#holeAfter === null && this.fold.fromSeq !== null;
  }

  get isHeard(): boolean {
    return this.#isHeard;
  }

  /** Something is missing after this number; null: nothing is. */
  get holeAfter(): number | null {
    return this.#holeAfter;
  }

  /** Without a gap, oldest first, with what waits to be sent at its end. */
  messages(): Message[] {
    const messages = this.fold.messages();
    if (this.entries.length === 0) return messages;
    return overlaid(messages, this.entries, { conversationId: this.id, userId: this.#core.userId });
  }

  get lastMessage(): Message | null {
    const last = this.fold.last;
    if (this.entries.length === 0) return last;
    const shown = { conversationId: this.id, userId: this.#core.userId };
    return overlaid(last === null ? [] : [last], this.entries, shown).at(-1) ?? null;
  }

  /** When the newest message that the server has was made; empty where there is none. */
  get lastAt(): string {
    return this.fold.last?.createdAt ?? "";
  }

  takeEvent({ type, seq, topic, payload, timestamp }: ServerEvent): void {
    const isLogged = topic === this.topic && seq !== undefined;
    if (isLogged) this.#hear({ type, seq, payload });
    switch (type) {
      case "message.new":
        this.#typing?.stop(String(payload.sender_id));
        break;
      case "message.read":
        // A private one, of another device of this user's: it has a number of the user's own topic.
        if (!isLogged) this.fold.takeAside({ type, seq: 0, payload });
        break;
      case "typing.start":
        return this.#type(payload as unknown as ServerPayloads["typing.start"], timestamp);
      case "typing.stop":
        return this.#typing?.stop(String(payload.user_id));
      default:
        this.#takeMembers(type, payload);
    }
    this.changed();
  }

  takeSubscribed(topic: SubscribedTopic): void {
    const { snapshot } = topic;
    if (topic.topic !== this.topic) {
      this.#typing?.clear();
      for (const typing of snapshot?.typing ?? []) this.#type(typing);
      return;
    }
    this.#isRemoved = false;
    if (!this.#isHeard) this.#begin(topic);
    if (snapshot !== undefined) this.fold.stand(snapshot);
    if (topic.seq !== undefined) this.fold.begin(topic.seq);
    for (const event of this.#aside.splice(0)) this.fold.take(event);
    this.#mayWrite = snapshot?.may_write ?? true;
    this.areMembersOld = this.members !== null;
    this.changed();
  }

  /** Nothing more is heard of it. */
  takeUnsubscribed(isRevoked: boolean): void {
    this.#typing?.clear();
    if (isRevoked) return this.remove();
    this.#deafen();
    this.changed();
  }

  /** Something is missing, or the numbers begin anew: nothing of it holds any more. */
  takeGap(): void {
    this.forget();
    this.changed();
  }

  takeSent(entry: OutboxEntry, ack: ServerPayloads["ack"]): void {
    this.fold.takeOwn(entry, ack);
    this.changed();
  }

  /** The user may not hear it (any more): what it has of it goes. */
  remove(): void {
    this.forget();
    this.#isRemoved = true;
    this.changed();
  }

  forget(): void {
    this.fold.forget();
    this.#typing?.clear();
    this.members = null;
    this.#isRemoved = this.#wasKept = this.#isHeard = this.#wasHeard = false;
    this.#mayWrite = true;
    this.#aside = [];
    this.#sureSeq = this.markedSeq = 0;
    this.#holeAfter = null;
  }

  /** Has read what was missing, or a part of it. */
  fill({ events, has_more }: Pick<ServerPayloads["history"], "events" | "has_more">): void {
    for (const event of events) this.fold.take(event);
    this.#holeAfter = has_more ? events.at(-1)!.seq : null;
    this.changed();
  }

  keep(messagesMax: number): KeptConversation | null {
    const kept = this.#isRemoved || this.#holeAfter !== null ? null : this.fold.keep(messagesMax);
    return kept && { ...kept, mayWrite: this.#mayWrite, isHeard: this.#isHeard || this.#wasHeard };
  }

  /** @throws where it is not what it should be: nothing of it is taken then */
  restore({ mayWrite, isHeard, ...fold }: KeptConversation): void {
    try {
      this.fold.restore(fold);
    } catch (error) {
      this.forget();
      throw error;
    }
    this.#mayWrite = mayWrite;
    this.#wasKept = true;
    this.#wasHeard = isHeard;
    this.#sureSeq = fold.heardSeq;
    this.changed();
  }

  /** The cursor has gone on without it. @returns whether that is to be written down */
  leaveBehind(): boolean {
    if (!this.#wasHeard || this.#isHeard) return false;
    this.#wasHeard = false;
    return true;
  }

  /** Runs it with the next change. */
  onNext(run: () => void): void {
    this.#waiting.push(run);
  }

  changed(): void {
    for (const run of this.#waiting.splice(0)) run();
    this.#onChange(this);
  }

  #hear(event: LoggedEvent): void {
    this.fold.take(event);
    if (this.#isHeard) return;
    this.#aside.push(event);
    if (this.#aside.length > asideMax) this.#aside.shift();
  }

  /** Finds out whether what is held goes on without a gap to where it is heard from now on. */
  #begin({ recovered, seq }: SubscribedTopic): void {
    this.#isHeard = true;
    // To a tab that does not lead all is told that came after what is kept, but for what is on its way.
    const isTold = !this.#core.isLead && seq !== undefined && seq <= this.fold.heardSeq;
    const goesOn = this.#wasHeard && (recovered === true || isTold);
    const isSure = this.fold.fromSeq === null || goesOn || seq === this.#sureSeq;
    this.#wasHeard = false;
    if (isSure) this.#aside = [];
    else if (this.isLookedAt) this.#holeAfter = this.#sureSeq;
    else this.fold.forget();
  }

  #deafen(): void {
    if (this.#isHeard) this.#sureSeq = this.#holeAfter ?? this.fold.heardSeq;
    this.#isHeard = false;
    this.#holeAfter = null;
  }

  #type(typing: ServerPayloads["typing.start"], toldAt?: string): void {
    if (typing.user_id === this.#core.userId) return;
    this.#typing ??= new TypingUsers(this.#clock, () => this.changed());
    this.#typing.start(typing, toldAt);
  }

  #takeMembers(type: string, payload: ServerEvent["payload"]): void {
    const { user_id, may_write = true } = payload as Partial<ServerPayloads["member.updated"]>;
    if (type === "member.updated" && user_id === this.#core.userId) this.#mayWrite = may_write;
    if (type.startsWith("member")) this.membersTold++;
    if (type === "members.changed") this.areMembersOld = this.members !== null;
    if (this.members === null || user_id === undefined) return;
    if (type === "member.added") this.members = new Set([...this.members, user_id]);
    if (type === "member.removed") this.members = new Set([...this.members].filter((it) => it !== user_id));
  }
}

/** Of which conversation a topic is, that of its events or of who types. */
export function conversationOf(topic: string | undefined): string | null {
  const [, id] = /^(?:conversation|typing):(.*)$/s.exec(topic ?? "") ?? [];
  return id ?? null;
}
