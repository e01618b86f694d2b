/** Reads what is typed into `connect`: whole JSON messages and short forms. */
import { isPlainObject } from "../protocol/envelope.ts";
import { isTopicKind } from "../protocol/topic.ts";

export type Input =
  | { kind: "request"; type: string; payload: Record<string, unknown> }
  /** A JSON message as it was typed; `id` and the like may be missing. */
  | { kind: "message"; message: Record<string, unknown> }
  | { kind: "quit" }
  | { kind: "help" }
  | { kind: "nothing" }
  | { kind: "fault"; message: string };

interface ShortForm {
  usage: string;
  summary: string;
  /** @returns undefined where the words make no sense */
  read(words: string[], rest: string): Input | undefined;
}

const request = (type: string, payload: Record<string, unknown> = {}): Input => ({ kind: "request", type, payload });
const statuses = new Set(["online", "away", "busy", "invisible"]);

/** `conversation c1 c2` and `conversation:c1` → whole names; `conversation` alone → all of one's own [SUB1]. */
function topics([first = "", ...keys]: string[]): string[] | undefined {
  if (isTopicKind(first)) return keys.length === 0 ? [first] : keys.map((key) => `${first}:${key}`);
  return first === "" ? undefined : [first, ...keys];
}

function whole(word: string | undefined): number | undefined {
  return word !== undefined && /^\d{1,15}$/.test(word) ? Number(word) : undefined;
}

const shortForms: Record<string, ShortForm> = {
  sub: {
    usage: "/sub conversation c1",
    summary: "subscribe; several ids, or none for all of your own; conversation:c1 works too",
    read: (words) => {
      const names = topics(words);
      return names && request("subscribe", { topics: names });
    },
  },
  unsub: {
    usage: "/unsub typing c1",
    summary: "unsubscribe",
    read: (words) => {
      const names = topics(words);
      return names && request("unsubscribe", { topics: names });
    },
  },
  send: {
    usage: "/send c1 hello there",
    summary: "send a message to a conversation",
    read: ([id], rest) => {
      if (id === undefined || rest === "") return undefined;
      return request("message.send", { conversation_id: id, content: rest });
    },
  },
  typing: {
    usage: "/typing c1",
    summary: "say that you are typing",
    read: ([id, extra]) => {
      if (id === undefined || extra !== undefined) return undefined;
      return request("typing.start", { conversation_id: id });
    },
  },
  read: {
    usage: "/read c1 12",
    summary: "mark a conversation as read up to a seq",
    read: ([id, seq, extra]) => {
      const upTo = whole(seq);
      if (id === undefined || upTo === undefined || extra !== undefined) return undefined;
      return request("mark.read", { conversation_id: id, up_to_seq: upTo });
    },
  },
  presence: {
    usage: "/presence away lunch",
    summary: "set your status (online, away, busy, invisible) and a text",
    read: ([status], rest) => {
      if (status === undefined || !statuses.has(status)) return undefined;
      return request("presence.update", { status, ...(rest === "" ? {} : { status_text: rest }) });
    },
  },
  who: {
    usage: "/who u1 u2",
    summary: "ask for users' presence",
    read: (words) => (words.length === 0 ? undefined : request("presence.query", { user_ids: words })),
  },
  history: {
    usage: "/history conversation:c1 20",
    summary: "the newest events of a topic",
    read: ([topic, count, extra]) => {
      const limit = whole(count);
      if (topic === undefined || (count !== undefined && limit === undefined) || extra !== undefined) return undefined;
      return request("history", { topic, ...(limit === undefined ? {} : { limit }) });
    },
  },
  ping: { usage: "/ping", summary: "ask for the server's time and your cursor", read: () => request("ping") },
  help: { usage: "/help", summary: "show this", read: () => ({ kind: "help" }) },
  quit: { usage: "/quit", summary: "disconnect and leave", read: () => ({ kind: "quit" }) },
};

/** One typed line. Never throws: what cannot be read is a `fault` with a sentence for people. */
export function parseInput(line: string): Input {
  const text = line.trim();
  if (text === "") return { kind: "nothing" };
  if (text.startsWith("{")) return parseMessage(text);
  if (!text.startsWith("/"))
    return { kind: "fault", message: "Type a JSON message or a short form; /help lists them." };
  const [, name = "", tail = ""] = /^\/(\S*)\s*(.*)$/s.exec(text) ?? [];
  const form = Object.hasOwn(shortForms, name) ? shortForms[name] : undefined;
  if (form === undefined) return { kind: "fault", message: `There is no /${name}; /help lists what there is.` };
  const words = tail === "" ? [] : tail.split(/\s+/);
  // The rest after the first word, with its inner spaces kept: it may be a message's text.
  const rest = tail.slice(words[0]?.length ?? 0).trimStart();
  return form.read(words, rest) ?? { kind: "fault", message: `Write it like this: ${form.usage}` };
}

function parseMessage(text: string): Input {
  try {
    const message: unknown = JSON.parse(text);
    if (isPlainObject(message)) return { kind: "message", message };
  } catch {
    // Said below, as for any other text that is no message.
  }
  return { kind: "fault", message: "This is not a JSON object." };
}

/** The short forms, one a line. */
export function inputHelp(): string {
  const forms = Object.values(shortForms);
  const width = Math.max(...forms.map(({ usage }) => usage.length));
  const rows = forms.map(({ usage, summary }) => `  ${usage.padEnd(width)}  ${summary}\n`);
  return `${rows.join("")}  ${'{"type":"ping"}'.padEnd(width)}  any message as JSON; id and client_message_id are filled in\n`;
}
