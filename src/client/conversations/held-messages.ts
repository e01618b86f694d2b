/** Holds the messages of a conversation by their numbers, and changes each as it is told, whatever comes first [MSG2] [MSG3]. */
import type { ServerPayloads } from "../wire.ts";
import { type LoggedEvent, messageOf, type Reaction, type SentMessage, withReaction } from "./message.ts";

type Told<T extends keyof ServerPayloads> = { type: T; seq: number; payload: ServerPayloads[T] };

/** Changes a message that is there. */
export type Change = Told<"message.edited"> | Told<"message.deleted"> | Told<"message.reaction">;

/** A message, with the numbers of what has made it so. */
export interface Held {
  message: SentMessage;
  /** Of the edit that it shows; 0: as it came. */
  edit: number;
  /** Of what deleted it; 0: nothing has, or it came deleted. */
  gone: number;
  /** Of the newest word on a user's reaction. */
  took: Map<string, number> | null;
  /**
   * It is read anew: what comes meanwhile is put aside as well, for the answer may be from before it. What had come when it was asked for is in
   * the answer, by these numbers.
   */
  awaited: Pick<Held, "edit" | "took"> | null;
}

/** Messages that are not here, of which changes are kept while nothing is under way that could bring them. */
const waitingMax = 20;
/** And while something is. */
const waitingUnderWayMax = 1_000;

export class HeldMessages {
  readonly #byId = new Map<string, Held>();
  /** By their numbers; what comes is most often the newest. */
  readonly #ordered: Held[] = [];
  /** By `message_id`: changes of what is not loaded, or on its way. */
  #waiting: Map<string, Change[]> | null = null;
  #doubtful: Set<string> | null = null;
  /** Of the newest message of others. */
  othersSeq = 0;
  /** Answers under way that may bring messages of before. */
  awaited = 0;

  constructor(private readonly who: { readonly userId: string | null }) {}

  get size(): number {
    return this.#ordered.length;
  }

  get last(): SentMessage | null {
    return this.#ordered.at(-1)?.message ?? null;
  }

  get doubtful(): string[] {
    return this.#doubtful === null ? [] : [...this.#doubtful];
  }

  get(messageId: string): SentMessage | null {
    return this.#byId.get(messageId)?.message ?? null;
  }

  /** All with this number or a higher one, oldest first. */
  from(seq: number): SentMessage[] {
    const first = this.#ordered.findIndex(({ message }) => message.seq >= seq);
    return first < 0 ? [] : this.#ordered.slice(first).map(({ message }) => message);
  }

  /** All above a number, newest first. */
  *above(seq: number): Iterable<Held> {
    for (let at = this.#ordered.length - 1; at >= 0; at--) {
      const held = this.#ordered[at]!;
      if (held.message.seq <= seq) return;
      yield held;
    }
  }

  /** Passes over what is here already: more is known of it than how it was when it was read. */
  add(event: LoggedEvent): void {
    const message = messageOf(event, this.who.userId);
    if (this.#byId.has(message.id)) return;
    const held = this.insert(message);
    for (const change of this.#takeWaiting(message.id)) this.#change(held, change);
  }

  insert(message: SentMessage): Held {
    const held: Held = { message, edit: 0, gone: 0, took: null, awaited: null };
    this.#byId.set(message.id, held);
    if (!message.isOwn) this.othersSeq = Math.max(this.othersSeq, message.seq);
    let at = this.#ordered.length;
    while (at > 0 && this.#ordered[at - 1]!.message.seq > message.seq) at--;
    this.#ordered.splice(at, 0, held);
    return held;
  }

  /** @param asOf a deletion above it of what is not here is kept until it has been asked whether that was counted */
  change(change: Change, asOf: number): void {
    const id = change.payload.message_id;
    const held = this.#byId.get(id);
    if (held === undefined || held.awaited !== null) this.#wait(id, change, asOf);
    if (held !== undefined) this.#change(held, change);
  }

  /** Notes whether one's own is among a reaction's many that are not named. */
  own(messageId: string, reaction: string, isMine: boolean): void {
    const held = this.#byId.get(messageId);
    if (held === undefined) return;
    const isUnnamed = ({ count, userIds }: Reaction) =>
      count > userIds.length && !userIds.includes(this.who.userId ?? "");
    const reactions = held.message.reactions.map((it) =>
      it.reaction === reaction && isUnnamed(it) ? { ...it, isMine } : it,
    );
    held.message = { ...held.message, reactions };
  }

  /** Only the service knows how this message is now. */
  doubt(messageId: string): void {
    this.#doubtful ??= new Set();
    this.#doubtful.add(messageId);
  }

  /** @returns whether something was deleted above a number that is not here */
  isDeletedUnseen(asOf: number): boolean {
    if (this.#waiting === null) return false;
    const isUnseen = ({ type, seq }: Change) => type === "message.deleted" && seq > asOf;
    for (const [id, changes] of this.#waiting) if (!this.#byId.has(id) && changes.some(isUnseen)) return true;
    return false;
  }

  expectAnew(messageId: string): boolean {
    const held = this.#byId.get(messageId);
    if (held === undefined || held.awaited !== null) return false;
    held.awaited = { edit: held.edit, took: held.took && new Map(held.took) };
    return true;
  }

  takeAnew(messageId: string, event: LoggedEvent | null): void {
    const held = this.#byId.get(messageId);
    if (held === undefined || held.awaited === null) return;
    const had = held.awaited;
    held.awaited = null;
    this.#doubtful?.delete(messageId);
    const waiting = this.#takeWaiting(messageId);
    if (event === null) return;
    const message = messageOf(event, this.who.userId);
    const { reactions: before } = held.message;
    // Which of those who are not named are oneself the answer does not say.
    const reactions = message.reactions.map((it) => {
      const isUnnamed = it.count > it.userIds.length;
      const wasMine = before.some(({ reaction, isMine }) => isMine && reaction === it.reaction);
      return isUnnamed && wasMine && !it.isMine ? { ...it, isMine: true } : it;
    });
    const gone = message.deletedAt === null ? 0 : held.gone;
    Object.assign(held, { ...had, message: { ...message, reactions }, gone });
    for (const change of waiting) this.#change(held, change);
  }

  /** Drops the oldest. */
  drop(count: number): void {
    for (const { message } of this.#ordered.splice(0, count)) {
      this.#byId.delete(message.id);
      this.#doubtful?.delete(message.id);
      this.#waiting?.delete(message.id);
    }
  }

  clear(): void {
    this.#byId.clear();
    this.#ordered.length = 0;
    this.othersSeq = 0;
    this.#waiting = this.#doubtful = null;
  }

  #change(held: Held, { type, seq, payload }: Change): void {
    const { message } = held;
    if (type === "message.deleted") {
      Object.assign(held, { gone: Math.max(held.gone, seq), took: null });
      this.#doubtful?.delete(message.id);
      held.message = { ...message, content: null, deletedAt: payload.deleted_at, editedAt: null, reactions: [] };
    } else if (message.deletedAt !== null) return;
    else if (type === "message.edited") {
      if (seq <= held.edit) return;
      held.edit = seq;
      held.message = { ...message, content: payload.content, editedAt: payload.edited_at };
    } else this.#react(held, { type, seq, payload });
  }

  #react(held: Held, change: Told<"message.reaction">): void {
    const { seq, payload } = change;
    const { user_id: userId, reaction, added } = payload;
    const key = kindOf(change);
    held.took ??= new Map();
    if (seq <= (held.took.get(key) ?? 0)) return;
    held.took.set(key, seq);
    const isMine = userId === this.who.userId;
    const { reactions, isExact } = withReaction(held.message.reactions, { reaction, userId, isMine, added });
    if (!isExact) this.doubt(held.message.id);
    held.message = { ...held.message, reactions };
  }

  #takeWaiting(messageId: string): Change[] {
    const changes = this.#waiting?.get(messageId) ?? [];
    this.#waiting?.delete(messageId);
    return changes;
  }

  #wait(messageId: string, change: Change, asOf: number): void {
    this.#waiting ??= new Map();
    this.#waiting.set(messageId, withChange(this.#waiting.get(messageId) ?? [], change));
    const max = this.awaited > 0 ? waitingUnderWayMax : waitingMax;
    if (this.#waiting.size <= max) return;
    for (const [id, changes] of this.#waiting) {
      if (this.#byId.has(id)) continue;
      const asked = changes.filter(({ type, seq }) => type === "message.deleted" && seq > asOf);
      if (asked.length > 0) this.#waiting.set(id, asked);
      else {
        this.#waiting.delete(id);
        return;
      }
    }
  }
}

/** Of changes of one kind the last one says it all: many react to a message that nobody here has loaded. */
function withChange(changes: Change[], change: Change): Change[] {
  const at = changes.findIndex((it) => kindOf(it) === kindOf(change));
  if (at < 0) changes.push(change);
  else if (changes[at]!.seq < change.seq) changes[at] = change;
  return changes;
}

const kindOf = ({ type, payload }: Change) =>
  type === "message.reaction" ? `${payload.user_id}\n${payload.reaction}` : type;
