/** Histories by hand for the checker's judge: two users, three devices, one conversation, and all is well in them. */
import type { ConnectionHistory, DeviceHistory, History } from "./checker/history.ts";

export const conversation = "conversation:c1";
/** At the beginning of the log. */
export const firstCursor = "e0000000.0";

/** A message that was sent to the conversation, as everybody sees it. */
export function message(seq: number, rest: { by?: string; key?: string; content?: string; position?: number } = {}) {
  const { by = "anna", key = `m${seq}`, content = `content of ${key}`, position = seq * 10 } = rest;
  const payload = {
    message_id: `id-${key}`,
    client_message_id: key,
    conversation_id: "c1",
    sender_id: by,
    content,
    created_at: "2026-01-01T00:00:00.000Z",
  };
  return {
    id: `id-${key}`,
    type: "message.new",
    payload,
    timestamp: payload.created_at,
    topic: conversation,
    seq,
    position,
  };
}

export type Message = ReturnType<typeof message>;

const minute = (seq: number) => `2026-01-01T00:${String(seq).padStart(2, "0")}:00.000Z`;

/** An event that changes a message; `by` has asked for it. */
export interface ChangeEvent extends Omit<Message, "payload"> {
  payload: any;
  by: string;
}

const change = (
  seq: number,
  type: string,
  { payload }: Message,
  { by, ...rest }: { by: string; [field: string]: unknown },
) =>
  ({
    ...{ id: `change${seq}`, type, topic: conversation, seq, position: seq * 10, timestamp: minute(seq), by },
    payload: { conversation_id: "c1", message_id: payload.message_id, ...rest },
  }) as ChangeEvent;

export const edit = (seq: number, of: Message, { by = "anna", content = `edit ${seq}` } = {}) =>
  change(seq, "message.edited", of, { by, content, edited_at: minute(seq), edited_by: by });

export const deletion = (seq: number, of: Message, { by = "anna" } = {}) =>
  change(seq, "message.deleted", of, { by, deleted_at: minute(seq), deleted_by: by });

export const reaction = (seq: number, of: Message, { by = "ben", name = "👍", added = true } = {}) =>
  change(seq, "message.reaction", of, { by, user_id: by, reaction: name, added, at: minute(seq) });

/** The message as the log has it after these, each newer than the one before. */
export function rowOf({ payload, ...event }: Message, ...changes: ChangeEvent[]): Message {
  const row: any = { ...payload };
  const reactions = new Map<string, string[]>();
  for (const { type, payload: it } of changes) {
    if (type === "message.edited") Object.assign(row, { content: it.content, edited_at: it.edited_at });
    else if (type === "message.deleted") {
      Object.assign(row, { content: null, deleted_at: it.deleted_at });
      delete row.edited_at;
      reactions.clear();
    } else {
      const others = (reactions.get(it.reaction) ?? []).filter((userId) => userId !== it.user_id);
      reactions.set(it.reaction, it.added ? [...others, it.user_id] : others);
    }
  }
  const shown = [...reactions].filter(([, user_ids]) => user_ids.length > 0);
  if (shown.length > 0)
    row.reactions = shown.map(([name, user_ids]) => ({ reaction: name, count: user_ids.length, user_ids }));
  return { ...event, payload: row };
}

/** Writes down what one connection did and saw; every line has the next order of the whole history. */
export class ConnectionWriter {
  #requests = 0;

  constructor(
    readonly connection: ConnectionHistory,
    private readonly next: () => number,
  ) {}

  request(type: string, payload: object = {}): string {
    const id = `r${++this.#requests}`;
    this.connection.entries.push({ order: this.next(), kind: "request", id, type, payload });
    return id;
  }

  reply(reply_to: string, type: string, payload: object = {}): void {
    this.see({ id: crypto.randomUUID(), type, payload, timestamp: "", reply_to });
  }

  /** A request and its reply. */
  exchange(request: [type: string, payload?: object], reply: [type: string, payload?: object]): void {
    this.reply(this.request(...request), ...reply);
  }

  see(...messages: any[]): void {
    for (const seen of messages) this.connection.entries.push({ order: this.next(), kind: "message", message: seen });
  }

  /** An event that is not logged. */
  hear(type: string, payload: object): void {
    this.see({ id: crypto.randomUUID(), type, payload, timestamp: "" });
  }

  live({
    seq = 0,
    cursor = firstCursor,
    since,
    snapshot = {},
  }: {
    seq?: number;
    cursor?: string;
    since?: any;
    snapshot?: any;
  } = {}) {
    const topics = [{ topic: conversation, seq, snapshot: { read_seq: 0, delivered_seq: 0, unread: 0, ...snapshot } }];
    const request = { topics: ["conversation"], ...(since === undefined ? {} : { since }) };
    this.exchange(["subscribe", request], ["subscribed", { topics, rejected: [], cursor }]);
  }

  /** Sends a message that gets its place at once. */
  send(sent: Message, { duplicate = false } = {}): void {
    const { topic, seq, position, id, payload } = sent;
    const { conversation_id, client_message_id, content } = payload;
    this.exchange(
      ["message.send", { conversation_id, client_message_id, content }],
      ["ack", { message_id: id, topic, seq, position, duplicate }],
    );
  }

  /** Asks for a change that is made at once. */
  change({ type, payload, topic, seq, position }: ChangeEvent, { duplicate = false } = {}): void {
    const { conversation_id, message_id, content, reaction } = payload;
    const ids = { conversation_id, message_id };
    const requests: Record<string, [string, object]> = {
      "message.edited": ["message.edit", { ...ids, content }],
      "message.deleted": ["message.delete", ids],
      "message.reaction": [payload.added ? "reaction.add" : "reaction.remove", { ...ids, reaction }],
    };
    this.exchange(requests[type]!, ["ack", { message_id, topic, seq, position, duplicate }]);
  }

  close(code = 1006, { byClient = true } = {}): void {
    this.connection.closed = { order: this.next(), code, byClient };
  }
}

export class HistoryWriter {
  #order = 0;
  readonly history: History = {
    conversations: [{ conversationId: "c1", userIds: ["anna", "ben"] }],
    devices: [],
    memoryLosses: [],
    logLosses: [],
    rest: null,
  };

  readonly next = () => ++this.#order;

  addDevice(userId: string, deviceId: string): DeviceHistory {
    const device: DeviceHistory = { userId, deviceId, connections: [] };
    this.history.devices.push(device);
    return device;
  }

  connect(device: DeviceHistory, { since = null }: { since?: ConnectionHistory["since"] } = {}): ConnectionWriter {
    const connection: ConnectionHistory = { url: "", openedAt: this.next(), since, entries: [], closed: null };
    device.connections.push(connection);
    return new ConnectionWriter(connection, this.next);
  }

  /** All has come to rest; `log` is what a look into the log of the conversation found. */
  rest(witness: ConnectionWriter, { log, statuses = {} }: { log: object[]; statuses?: Record<string, any> }): void {
    this.history.rest = { order: this.next(), statuses: { anna: "online", ben: "online", ...statuses } };
    witness.exchange(
      ["history", { topic: conversation }],
      ["history", { topic: conversation, events: log, has_more: false }],
    );
  }
}

/**
 * Anna's phone and laptop and Ben's phone are live on the conversation and see each other; `happens` writes the story,
 * then all comes to rest.
 */
export function historyOf(
  happens: (scene: {
    phone: ConnectionWriter;
    laptop: ConnectionWriter;
    ben: ConnectionWriter;
    writer: HistoryWriter;
  }) => void,
  { log = [], statuses = {} }: { log?: object[]; statuses?: Record<string, any> } = {},
): History {
  const writer = new HistoryWriter();
  const [phone, laptop, ben] = [
    writer.connect(writer.addDevice("anna", "phone")),
    writer.connect(writer.addDevice("anna", "laptop")),
    writer.connect(writer.addDevice("ben", "bens")),
  ] as const;
  for (const connection of [phone, laptop, ben]) connection.live();
  for (const connection of [phone, laptop]) connection.hear("presence.online", { user_id: "ben", status: "online" });
  ben.hear("presence.online", { user_id: "anna", status: "online" });
  happens({ phone, laptop, ben, writer });
  writer.rest(laptop, { log, statuses });
  return writer.history;
}
