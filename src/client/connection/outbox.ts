/** Keeps what is to be sent until the server has it: in order in each conversation, paced by the server, once [LOG2]. */
import type { Clock, ConnectionState, Outbox, OutboxEntry, OutboxType, Store, Unlisten } from "../core.ts";
import { ClientError, ServerError } from "../errors.ts";
import { newId, orderedId } from "../ground/ids.ts";
import { Listeners } from "../ground/listeners.ts";
import type { ClientPayloads, JsonObject, ServerPayloads } from "../wire.ts";
import { Pace, type PaceName, paceOf } from "./pace.ts";

/** Bounds what waits for the server: beyond it nothing more is taken. */
const pendingMax = 1_000;
/** Bounds what the server refused for good and nobody has discarded: the oldest go. */
const failedMax = 1_000;
/** A fault of the server's that one entry meets again and again is the entry's. */
const internalErrorsMax = 5;

const prefix = "outbox/";

interface Item {
  /** In the store: its place among all, and what no other tab makes, so that nobody removes another's. */
  readonly key: string;
  entry: OutboxEntry;
  /** It was sent, so that the server may have it, whatever was heard of it. */
  hasLeft: boolean;
  /** It is in the store, or on its way there. */
  isKept: boolean;
  isTaken: boolean;
  internalErrors: number;
}

/** As it is kept: what may have left before a reload must not be replaced by something else under its key. */
interface KeptItem {
  entry: OutboxEntry;
  hasLeft: boolean;
}

const unsent = { hasLeft: false, isKept: false, isTaken: false, internalErrors: 0 };

export interface OutboxOptions {
  store: Store;
  clock: Clock;
  /** From 0 to below 1. */
  random: () => number;
  /** Asks on the connection that is live. It rejects as `Core.request` does; an answer that comes after all is taken. */
  send(type: OutboxType, payload: ClientPayloads[OutboxType]): Promise<ServerPayloads["ack"]>;
  /** The server has it; told before the entry goes. */
  onSent(entry: OutboxEntry, ack: ServerPayloads["ack"]): void;
  /** Nothing is taken where nothing may be kept; left out, everything is. */
  isSignedOut?(): boolean;
  /** Such as that it could not be written down: it is sent all the same, but a reload loses it. */
  onError(error: unknown): void;
}

export class DurableOutbox implements Outbox {
  readonly #options: OutboxOptions;
  #items: Item[] = [];
  #entries: readonly OutboxEntry[] = [];
  #last = 0;
  #loaded: Promise<void> | null = null;
  #isLive = false;
  /** Counts the times that the line was lost: what comes of a send before that says nothing of the line as it is. */
  #line = 0;
  readonly #underWay = new Map<string, Item>();
  readonly #paces: Record<PaceName, Pace>;
  readonly #onChange: Listeners<void>;

  constructor(options: OutboxOptions) {
    this.#options = options;
    this.#onChange = new Listeners(options.onError);
    const pace = () => new Pace(options, () => this.#pump());
    this.#paces = { marks: pace(), events: pace(), messages: pace() };
  }

  get entries(): readonly OutboxEntry[] {
    return this.#entries;
  }

  onChange(listener: () => void): Unlisten {
    return this.#onChange.add(listener);
  }

  /** Reads what was kept; whatever is added waits for it. What cannot be read is not there. */
  load(): Promise<void> {
    this.#loaded ??= this.#load();
    return this.#loaded;
  }

  async #load(): Promise<void> {
    const { store, onError } = this.#options;
    const kept = await store.read(prefix).catch((error) => {
      onError(error);
      return [];
    });
    for (const [key, value] of kept) {
      this.#items.push({ ...unsent, ...(value as KeptItem), key, isKept: true });
      this.#last = Number.parseInt(key.slice(prefix.length), 10);
    }
    this.#changed();
  }

  /** The connection is live: everything goes that waits. */
  resume(): void {
    this.#isLive = true;
    for (const pace of Object.values(this.#paces)) pace.resume();
    this.#pump();
  }

  /** The line is lost: what was under way goes again, under the same key, with `resume`. */
  suspend(): void {
    this.#isLive = false;
    this.#line++;
    this.#underWay.clear();
    for (const pace of Object.values(this.#paces)) pace.suspend();
  }

  /** Forgets everything; what is kept is the store's to clear. */
  forget(): void {
    this.suspend();
    // Taken, so that nobody is told of what the server says to one of these later.
    for (const item of this.#items) item.isTaken = true;
    this.#items = [];
    this.#changed();
  }

  async add<T extends OutboxType>(type: T, payload: ClientPayloads[T], id?: string): Promise<OutboxEntry<T>> {
    await this.load();
    if (this.#options.isSignedOut?.()) throw new ClientError("stopped");
    const entry = entryOf({ type, payload, id, createdAt: this.#options.clock.now() });
    // Asked for once more, by a tab that did not hear the answer.
    const same = this.#find(entry.id);
    if (same !== undefined) return same.entry as OutboxEntry<T>;
    const isWaiting = (item: Item) => this.#underWay.get(laneOf(item.entry)) !== item;
    const earlier = this.#items.find((item) => isWaiting(item) && merged(item.entry, entry) !== null);
    if (earlier !== undefined) {
      earlier.entry = merged(earlier.entry, entry)!;
      return (await this.#keepChanged(earlier)) as OutboxEntry<T>;
    }
    if (this.#all("pending").length >= pendingMax) throw new ClientError("outbox_full");
    const item: Item = { ...unsent, key: prefix + orderedId(++this.#last), entry };
    this.#items.push(item);
    return (await this.#keepChanged(item)) as OutboxEntry<T>;
  }

  async replace(id: string, payload: JsonObject): Promise<boolean> {
    await this.load();
    const item = this.#find(id);
    if (item === undefined || item.hasLeft || item.entry.type !== "message.send") return false;
    item.entry = { ...item.entry, payload: { ...item.entry.payload, ...payload } as ClientPayloads["message.send"] };
    await this.#keepChanged(item);
    return true;
  }

  async retry(id: string): Promise<void> {
    await this.load();
    const item = this.#find(id);
    if (item?.entry.state !== "failed") return;
    const { error: _, ...entry } = item.entry;
    item.entry = { ...entry, state: "pending" };
    item.internalErrors = 0;
    await this.#keepChanged(item);
  }

  /** Of what is on its way just now it is still heard whether the server took it. */
  async discard(id: string): Promise<void> {
    await this.load();
    const item = this.#find(id);
    if (item !== undefined) await this.#remove([item]);
  }

  #find = (id: string) => this.#items.find(({ entry }) => entry.id === id);
  #all = (state: OutboxEntry["state"]) => this.#items.filter(({ entry }) => entry.state === state);

  async #keepChanged(item: Item): Promise<OutboxEntry> {
    const { entry } = item;
    // It goes meanwhile, if it can; what is kept says so from the beginning.
    this.#pump();
    this.#changed();
    item.isKept = true;
    await this.#keep(item);
    return entry;
  }

  #keep({ key, entry, hasLeft }: Item): Promise<void> {
    return this.#write([[key, { entry, hasLeft } satisfies KeptItem]]);
  }

  #remove(items: Item[]): Promise<void> {
    const gone = new Set(items);
    this.#items = this.#items.filter((item) => !gone.has(item));
    this.#changed();
    return this.#write(items.map(({ key }) => [key, undefined]));
  }

  async #write(changes: [key: string, value: unknown][]): Promise<void> {
    await this.#options.store.write(changes).catch(this.#options.onError);
  }

  #changed(): void {
    this.#entries = this.#items.map(({ entry }) => entry);
    this.#onChange.tell();
  }

  /** Sends the first of each lane that has nothing under way, the oldest first, as many as their paces let go. */
  #pump(): void {
    if (!this.#isLive) return;
    const seen = new Set(this.#underWay.keys());
    for (const item of this.#items) {
      const lane = laneOf(item.entry);
      if (item.entry.state === "failed" || seen.has(lane)) continue;
      seen.add(lane);
      if (this.#paces[paceOf(item.entry.type)].take()) void this.#send(item, lane);
    }
  }

  async #send(item: Item, lane: string): Promise<void> {
    const line = this.#line;
    this.#underWay.set(lane, item);
    if (!item.hasLeft) {
      item.hasLeft = true;
      // Not waited for: a moment is lost at worst, and then the server says that it is another content.
      if (item.isKept && item.entry.type === "message.send") void this.#keep(item);
    }
    const { type, payload } = item.entry;
    const answer = await this.#options.send(type, payload).then(
      (ack) => ({ ack }),
      (error: unknown) => ({ error }),
    );
    const isOfThisLine = line === this.#line;
    if (isOfThisLine) this.#underWay.delete(lane);
    if ("ack" in answer) this.#took(item, answer.ack);
    if (!isOfThisLine) return;
    const pace = this.#paces[paceOf(type)];
    if ("ack" in answer) pace.took();
    else this.#refused(item, pace, answer.error);
    this.#pump();
  }

  #took(item: Item, ack: ServerPayloads["ack"]): void {
    if (item.isTaken) return;
    item.isTaken = true;
    this.#options.onSent(item.entry, ack);
    void this.#remove([item]);
  }

  #refused(item: Item, pace: Pace, error: unknown): void {
    const isInternal = error instanceof ServerError && error.code === "internal";
    if (isInternal) item.internalErrors++;
    if (isForGood(error) || item.internalErrors >= internalErrorsMax) {
      pace.took();
      this.#fail(item, error as ServerError | ClientError);
    } else pace.refused(error instanceof ServerError ? error.retryAfterMs : undefined);
  }

  #fail(item: Item, error: ServerError | ClientError): void {
    // Discarded meanwhile.
    if (!this.#items.includes(item)) return;
    // A mark is nobody's to try again: the next one says more.
    if (isMark(item.entry.type)) return void this.#remove([item]);
    const { code, message, field } = error;
    item.entry = { ...item.entry, state: "failed", error: { code, message, field } };
    // Replaceable again: the server does not have it, unless it has something else under this key.
    item.hasLeft = code === "conflict";
    const failed = this.#all("failed");
    if (failed.length > failedMax) void this.#remove(failed.slice(0, failed.length - failedMax));
    this.#changed();
    void this.#keep(item);
  }
}

export const isSignedOut = (state: ConnectionState) => state.status === "stopped" && state.reason === "signed_out";

/** Whether the outbox takes such requests. */
export const isOutboxType = (type: string): type is OutboxType => /^(message|reaction|mark|event)\./.test(type);

const isMark = (type: OutboxType) => paceOf(type) === "marks";

/** Names the line in which it goes one after the other. Marks wait for no message: they say what was seen, not what is said. */
const laneOf = ({ type, payload }: OutboxEntry) => (isMark(type) ? `${type} ` : "") + payload.conversation_id;

/** @returns the one given, else the key that the payload has, else a new one */
export function entryId(payload: ClientPayloads[OutboxType], id?: string): string {
  const { client_message_id, client_event_id } = payload as { client_message_id?: string; client_event_id?: string };
  return id ?? client_message_id ?? client_event_id ?? newId();
}

export function entryOf<T extends OutboxType>(given: {
  type: T;
  payload: ClientPayloads[T];
  id?: string | undefined;
  createdAt: number;
}): OutboxEntry<T> {
  const { type, createdAt } = given;
  const id = entryId(given.payload, given.id);
  // Its key: without one it would come twice where it is sent twice.
  const keyed = type === "event.send" ? { client_event_id: id, ...given.payload } : given.payload;
  return { id, type, payload: keyed, createdAt, state: "pending" };
}

/** @returns what takes the place of both, in the place of the earlier one; null where each has to be said */
function merged(earlier: OutboxEntry, later: OutboxEntry): OutboxEntry | null {
  if (!isMark(later.type) || earlier.type !== later.type) return null;
  const one = earlier.payload as ClientPayloads["mark.read"];
  const other = later.payload as ClientPayloads["mark.read"];
  const isLike = one.conversation_id === other.conversation_id && !one.private === !other.private;
  if (!isLike || one.up_to_seq === undefined || other.up_to_seq === undefined) return null;
  return { ...later, payload: { ...other, up_to_seq: Math.max(one.up_to_seq, other.up_to_seq) } };
}

/** A timeout or a line that broke says nothing: it goes again. */
const isForGood = (error: unknown) =>
  error instanceof ServerError
    ? !error.retryable && error.code !== "not_authenticated"
    : error instanceof ClientError && (error.code === "too_large" || error.code === "invalid_payload");
