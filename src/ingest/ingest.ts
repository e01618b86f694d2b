/** Publishes what applications left in an inbox: once, in order, as soon as it is durable there [PUB2]. */
import * as v from "valibot";
import type { Publisher } from "../broadcast/publisher.ts";
import { clientPayloads } from "../protocol/client.ts";
import { isPlainObject } from "../protocol/envelope.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { beyondShape } from "../protocol/json-text.ts";
import { limits } from "../protocol/limits.ts";
import { phraseOf } from "../protocol/phrase.ts";
import type { AmendmentRefusal } from "../storage/amendments.ts";
import type { Inbox, InboxEntry, RejectedEntry } from "../storage/inbox.ts";
import type { AppendedEvent, NewEvent } from "../storage/ports.ts";
import { Outage, type OutageLogger } from "../telemetry/outage.ts";
import type { IngestStats } from "../telemetry/stats.ts";
import { canBeLogged, conflictOf, readPublication, toNewEvent, topicsOf } from "./publication.ts";

export interface IngestOptions {
  publisher: Pick<Publisher, "appendAll">;
  /** `websocket.max_message_size` */
  payloadBytesMax: number;
  now: () => number;
  newId: () => string;
  logger: OutageLogger;
  /** How long it waits while the inbox or the log is away; default 1,000. */
  retryDelayMs?: number;
}

interface Ready {
  entry: InboxEntry;
  events: NewEvent[];
  /** The field that has its key; null where it has none of its own. */
  keyField: string | null;
  exceptDevice: string | undefined;
}

/** Describes what an entry may say: `publish` without what speaks of events that are not logged. */
const entryFields: ReadonlySet<string> = new Set([
  "topic",
  "conversation_id",
  "user_ids",
  "type",
  "payload",
  "event_key",
  "except_device",
]);
const refusalReasons: Record<AmendmentRefusal, string> = {
  unknown: "payload.message_id: There is no such message in this conversation.",
  deleted: "payload.message_id: This message is deleted.",
  too_many: "payload.reaction: There are too many different reactions on this message.",
};

/** Characters of a name that is not ours, in a reason. */
const nameLength = 64;

/** Events that are appended together. */
const groupEvents = 500;
/** Characters of payloads that are appended together; one event may have more. */
const groupLength = 8 * 1024 * 1024;

export type Ingest = ReturnType<typeof createIngest>;

/** Publishes from every inbox that there is. */
export function createIngest(inboxes: (Inbox | undefined)[], options: IngestOptions) {
  const drains = inboxes.flatMap((inbox) => (inbox === undefined ? [] : [new Drain({ ...options, inbox })]));
  return {
    start: async () => void (await Promise.all(drains.map((drain) => drain.start()))),
    /** Ends after what is under way; another node goes on. */
    stop: async () => void (await Promise.all(drains.map((drain) => drain.stop()))),
    async stats(): Promise<IngestStats> {
      return Object.assign({}, ...(await Promise.all(drains.map((drain) => drain.stats()))));
    },
  };
}

class Drain {
  readonly #ended = new AbortController();
  #running: Promise<void> | null = null;
  /** `told`: it has published since it has the lease, or found nothing to publish. */
  #lease: "elsewhere" | "ours" | "told" = "elsewhere";
  #published = 0;
  #rejected = 0;

  constructor(private readonly options: IngestOptions & { inbox: Inbox }) {}

  async start(): Promise<void> {
    await this.options.inbox.start();
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#running;
    await this.options.inbox.stop();
  }

  async stats(): Promise<IngestStats> {
    const { name } = this.options.inbox;
    const lag = await this.options.inbox.lag().catch(() => null);
    return {
      [`${name}_turn`]: this.#lease === "elsewhere" ? 0 : 1,
      [`${name}_published`]: this.#published,
      [`${name}_rejected`]: this.#rejected,
      ...(lag === null ? {} : { [`${name}_waiting`]: lag.entries, [`${name}_oldest_ms`]: lag.oldestMs }),
    };
  }

  async #run(): Promise<void> {
    const { inbox, logger, retryDelayMs = 1_000 } = this.options;
    const { signal } = this.#ended;
    const outage = new Outage({
      level: "warn",
      gone: "ingest waits",
      back: "ingest goes on",
      details: { inbox: inbox.name },
      logger,
    });
    while (!signal.aborted) {
      try {
        const entries = await this.#take();
        if (entries !== null && entries.length > 0) await this.#publish(entries);
        this.#tellLease();
        outage.ended();
        if (entries === null || entries.length === 0) await inbox.wait(signal);
      } catch (error) {
        // Said once, however long it lasts; entries stay where they are.
        outage.began(error);
        await pause(retryDelayMs, signal);
      }
    }
  }

  /** Where the log refuses what was taken the lease stays; where nothing can be taken it may be another node's. */
  async #take(): Promise<InboxEntry[] | null> {
    let entries: InboxEntry[] | null = null;
    try {
      entries = await this.options.inbox.take();
      return entries;
    } finally {
      if (entries === null) this.#lease = "elsewhere";
      else if (this.#lease === "elsewhere") this.#lease = "ours";
    }
  }

  #tellLease(): void {
    if (this.#lease !== "ours") return;
    this.#lease = "told";
    this.options.logger.info({ inbox: this.options.inbox.name }, "ingest is here now");
  }

  async #publish(entries: InboxEntry[]): Promise<void> {
    let group: Ready[] = [];
    const rejected: RejectedEntry[] = [];
    for (const entry of entries) {
      try {
        group.push(this.#toReady(entry));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        const field = error.details.field?.replace(/^payload\./, "");
        rejected.push({ entry, reason: field === undefined ? error.message : `${field}: ${error.message}` });
      }
      if (group.reduce((sum, { events }) => sum + events.length, 0) < groupEvents) continue;
      rejected.push(...(await this.#append(group)));
      group = [];
    }
    rejected.push(...(await this.#append(group)));
    if (rejected.length > 0) await this.#reject(rejected);
  }

  /**
   * Appends one part after the other, each as a whole, so that none of them can overtake another when the log fails in between. An
   * entry for many users may be more than one statement can carry; with its keys it goes on where it failed.
   * @returns those whose key has something else under it on one of their topics, or whose message is not there to be changed;
   * the others have what they say
   */
  async #append(group: Ready[]): Promise<RejectedEntry[]> {
    const { publisher, inbox } = this.options;
    const appended: AppendedEvent[] = [];
    const exceptDevices = new Map(group.flatMap(({ events, exceptDevice }) => events.map((it) => [it, exceptDevice])));
    const audienceOf = (event: NewEvent) => ({ exceptDevice: exceptDevices.get(event) });
    for (const part of partsOf([...exceptDevices.keys()]))
      appended.push(...(await publisher.appendAll(part, { audienceOf })));
    const rejected: RejectedEntry[] = [];
    let start = 0;
    for (const { entry, events, keyField } of group) {
      const answers = appended.slice(start, start + events.length);
      const conflicting = events.filter((_, index) => answers[index]!.conflict).map(({ topic }) => topic);
      const refusal = answers.find(({ refusal }) => refusal !== undefined)?.refusal;
      start += events.length;
      if (conflicting.length > 0) rejected.push({ entry, reason: `${keyField}: ${conflictOf(conflicting)}` });
      // Nor is kept what would have been said of a message that is deleted.
      else if (refusal !== undefined)
        rejected.push({
          entry,
          reason: refusalReasons[refusal],
          ...(refusal === "deleted" ? { isForgotten: true as const } : {}),
        });
    }
    const refused = new Set(rejected.map(({ entry }) => entry));
    const published = group.filter(({ entry }) => !refused.has(entry)).map(({ entry }) => entry.id);
    if (published.length > 0) await inbox.remove(published);
    this.#published += published.length;
    return rejected;
  }

  async #reject(rejected: RejectedEntry[]): Promise<void> {
    const { inbox, logger } = this.options;
    await inbox.reject(rejected);
    this.#rejected += rejected.length;
    for (const { entry, reason } of rejected)
      logger.warn({ inbox: inbox.name, entry: entry.id, reason }, "an entry cannot be published and was put aside");
  }

  /** @throws ProtocolError `invalid_payload` where it can never be published */
  #toReady(entry: InboxEntry): Ready {
    const { key, fields } = entry;
    const request = this.#readRequest(fields);
    const publication = readPublication(request, this.options);
    const topics = topicsOf(request);
    if (!topics.every(canBeLogged)) throw invalid("topic", "Events of this topic are not logged.");
    // As it was written, unless the event says more: JSON.parse would round long numbers.
    const payload = publication.body === request.payload ? fields.payload! : JSON.stringify(publication.body);
    const events = topics.map((topic) => {
      const id = topics.length === 1 ? publication.id : this.options.newId();
      return toNewEvent(publication, { topic, id, key: `${key}:${topic}`, payload });
    });
    return { entry, events, keyField: publication.keyField, exceptDevice: request.except_device };
  }

  #readRequest(fields: InboxEntry["fields"]) {
    // Not passed over: `logged` or a slip of the pen would be taken for something that it is not.
    const unknown = Object.keys(fields).find((name) => !entryFields.has(name));
    if (unknown !== undefined) {
      const known = [...entryFields].join(", ").replace(/, (?=\w+$)/, " and ");
      throw invalid(unknown.slice(0, nameLength), `is no field of an entry, which has ${known}.`);
    }
    const { topic, conversation_id, type, event_key, except_device } = fields;
    if (type === undefined) throw invalid("type", "is missing.");
    if (fields.payload === undefined) throw invalid("payload", "is missing.");
    if ([topic, conversation_id, fields.user_ids].filter((it) => it !== undefined).length !== 1)
      throw invalid("topic", "needs exactly one of topic, conversation_id and user_ids.");
    const user_ids = fields.user_ids === undefined ? undefined : readJson("user_ids", fields.user_ids);
    const text = fields.payload;
    if (Buffer.byteLength(text) > this.options.payloadBytesMax) throw invalid("payload", "This is too large.");
    // As deep, and as many, as could come by `publish`.
    const beyond = beyondShape(text, { depth: limits.jsonDepth - 2, values: limits.jsonValues });
    if (beyond === "depth") throw invalid("payload", "This is nested too deep.");
    if (beyond === "values") throw invalid("payload", `This has more than ${limits.jsonValues} values.`);
    const payload = readJson("payload", text);
    if (!isPlainObject(payload)) throw invalid("payload", "This is not a JSON object.");
    const request = { topic, user_ids, conversation_id, type, payload, event_key, except_device };
    const result = v.safeParse(clientPayloads.publish, request, { abortEarly: true });
    if (!result.success) throw invalid(v.getDotPath(result.issues[0]) ?? "entry", `${phraseOf(result.issues[0])}.`);
    return { ...result.output, payload };
  }
}

function partsOf(events: NewEvent[]): NewEvent[][] {
  const parts: NewEvent[][] = [];
  let part: NewEvent[] = [];
  let length = 0;
  for (const event of events) {
    if (part.length === groupEvents || (part.length > 0 && length + event.payload.length > groupLength)) {
      parts.push(part);
      part = [];
      length = 0;
    }
    part.push(event);
    length += event.payload.length;
  }
  return part.length > 0 ? [...parts, part] : parts;
}

const invalid = (field: string, message: string) => new ProtocolError("invalid_payload", message, { field });

function readJson(field: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid(field, "This is not JSON.");
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}
