/** Maps what may be typed after `ws-service admin` to the request that each form stands for [ADM2]. */
import * as v from "valibot";
import { type ClientMessageType, clientPayloads } from "../protocol/client.ts";
import { type CommandArgs, UsageError } from "./command.ts";

/** Options that only some forms take. */
const formOptions = ["of", "connection", "device", "node", "address", "reason", "limit", "after", "payloads"] as const;

export interface AdminRequest {
  type: Extract<ClientMessageType, `admin.${string}`>;
  payload: Record<string, unknown>;
}

interface Form {
  /** One line for the list of forms. */
  summary: string;
  /** Stands for the words after the name. */
  words: string;
  /** How many words it takes at least, and at most. */
  least: number;
  most: number;
  /** None where it is left out. */
  options?: readonly (typeof formOptions)[number][];
  type: AdminRequest["type"];
  payload: (words: readonly string[], args: CommandArgs) => Record<string, unknown>;
}

const none = { words: "", least: 0, most: 0 };
const many = Number.POSITIVE_INFINITY;
const members = {
  words: "<conversation> <user>…",
  least: 2,
  most: many,
  payload: ([conversation_id, ...user_ids]: readonly string[]) => ({ conversation_id, user_ids }),
};
const topics = {
  words: "<user> <topic>…",
  least: 2,
  most: many,
  payload: ([user_id, ...names]: readonly string[]) => ({ user_id, topics: names }),
};
const able = (disabled: boolean) => ({
  words: "<user>",
  least: 1,
  most: 1,
  payload: ([user_id]: readonly string[]) => ({ user_id, disabled }),
});
const writing = (may_write: boolean) => ({
  words: "<conversation> <user>",
  least: 2,
  most: 2,
  payload: ([conversation_id, user_id]: readonly string[]) => ({ conversation_id, user_id, may_write }),
});
const ofUser = {
  words: "<user>",
  least: 1,
  most: 1,
  payload: ([user_id]: readonly string[]) => ({ user_id }),
};
const paging = ["limit", "after"] as const;
function page(args: CommandArgs) {
  const limit = args.value("limit");
  // Text stays what it is: it is refused as no whole number.
  return { after: args.value("after"), limit: limit !== undefined && /^\d+$/.test(limit) ? Number(limit) : limit };
}

/** By its name, one word or two. */
export const forms: Record<string, Form> = {
  stats: {
    summary: "what each part counts, of all nodes together and of each",
    ...none,
    type: "admin.stats",
    payload: () => ({}),
  },
  samples: {
    summary: "the last hour, in steps",
    ...none,
    options: ["node", "after"],
    type: "admin.samples",
    payload: (_, args) => ({ node_id: args.value("node"), after: args.value("after") }),
  },
  nodes: { summary: "which nodes there are, and how each is", ...none, type: "admin.nodes", payload: () => ({}) },
  connections: {
    summary: "who is connected, and from where",
    ...none,
    options: ["of", "device", "node", "address", ...paging],
    type: "admin.connections",
    payload: (_, args) => ({
      user_id: args.value("of"),
      device_id: args.value("device"),
      node_id: args.value("node"),
      address: args.value("address"),
      ...page(args),
    }),
  },
  connection: {
    summary: "one connection, and its topics",
    words: "<connection>",
    least: 1,
    most: 1,
    type: "admin.connection",
    payload: ([connection_id]) => ({ connection_id }),
  },
  watch: {
    summary: "what a connection receives and sends, until ^C",
    words: "<connection>",
    least: 1,
    most: 1,
    options: ["payloads"],
    type: "admin.watch",
    payload: ([connection_id], args) => ({ connection_id, payloads: args.has("payloads") }),
  },
  disconnect: {
    summary: "close connections; whoever is not blocked may come back",
    ...none,
    options: ["of", "connection", "device", "reason"],
    type: "admin.disconnect",
    payload: (_, args) => {
      const [user_id, connection_id, device_id] = [args.value("of"), args.value("connection"), args.value("device")];
      if ((user_id ?? connection_id ?? device_id) === undefined)
        throw new UsageError("admin disconnect needs --of, --connection or --device");
      return { user_id, connection_id, device_id, reason: args.value("reason") };
    },
  },
  topics: {
    summary: "which topics somebody hears",
    words: "[<prefix>]",
    least: 0,
    most: 1,
    options: paging,
    type: "admin.topics",
    payload: ([prefix], args) => ({ prefix, ...page(args) }),
  },
  topic: {
    summary: "who hears a topic, and how far its log is",
    words: "<topic>",
    least: 1,
    most: 1,
    type: "admin.topic",
    payload: ([topic]) => ({ topic }),
  },
  subscribe: { summary: "have a user's connections hear topics", ...topics, type: "admin.subscribe" },
  unsubscribe: { summary: "have them hear these no more", ...topics, type: "admin.unsubscribe" },
  block: {
    summary: "disconnect a user, and let it in no more for so long; 0 lifts it",
    words: "<user> <for>",
    least: 2,
    most: 2,
    options: ["reason"],
    type: "admin.block",
    payload: ([user_id, length], args) => {
      // Seconds on the wire, and hours to most who type it.
      if (/^[\d.]*[1-9][\d.]*$/.test(length!))
        throw new UsageError(
          `admin block: the time must have its unit, such as ${length}m or ${length}h; 0 lifts the block`,
        );
      return { user_id, for: /^\d+$/.test(length!) ? Number(length) : length, reason: args.value("reason") };
    },
  },
  "members list": {
    summary: "the members of a conversation",
    words: "<conversation>",
    least: 1,
    most: 1,
    options: paging,
    type: "admin.members",
    payload: ([conversation_id], args) => ({ conversation_id, ...page(args) }),
  },
  "members add": { summary: "add members, who begin it where there is none", ...members, type: "admin.members.add" },
  "members remove": {
    summary: "remove members, who hear nothing more of it",
    ...members,
    type: "admin.members.remove",
  },
  "members mute": { summary: "let a member read, and write no more", ...writing(false), type: "admin.members.update" },
  "members unmute": { summary: "let it write again", ...writing(true), type: "admin.members.update" },
  "conversations update": {
    summary: "keep its events for less than log.retention; null: as long",
    words: "<conversation> <retention>|null",
    least: 2,
    most: 2,
    type: "admin.conversations.update",
    payload: ([conversation_id, retention]) => ({
      conversation_id,
      retention: retention === "null" ? null : retention,
    }),
  },
  "users show": {
    summary: "whether somebody is known, disabled or blocked, and until when",
    ...ofUser,
    type: "admin.user",
  },
  "users erase": { summary: "erase what is kept of a user, in the background", ...ofUser, type: "admin.users.erase" },
  "users erasure": { summary: "how far that is", ...ofUser, type: "admin.users.erasure" },
  "users upsert": {
    summary: "have users known",
    words: "<user>…",
    least: 1,
    most: many,
    type: "admin.users.upsert",
    payload: (user_ids) => ({ user_ids: [...user_ids] }),
  },
  "users disable": { summary: "disconnect a user, and let it in no more", ...able(true), type: "admin.users.disable" },
  "users enable": { summary: "let it in again", ...able(false), type: "admin.users.disable" },
};

/**
 * The request that the words and options stand for.
 * @throws UsageError where they stand for none, or the server would find a fault in it
 */
export function adminRequest(args: CommandArgs): AdminRequest {
  const [first = "", second = ""] = args.words;
  const name = Object.hasOwn(forms, first) ? first : `${first} ${second}`;
  const form = Object.hasOwn(forms, name) ? forms[name] : undefined;
  if (form === undefined) throw new UsageError(`admin needs one of: ${Object.keys(forms).join(", ")}`);
  const words = args.words.slice(name.split(" ").length);
  if (words.length < form.least || words.length > form.most)
    throw new UsageError(`usage: admin ${name} ${form.words}`.trimEnd());
  // Nothing that was typed is left out: it may have been meant to spare somebody.
  const foreign = formOptions.find(
    (it) => (args.has(it) || args.value(it) !== undefined) && form.options?.includes(it) !== true,
  );
  if (foreign !== undefined) throw new UsageError(`admin ${name} does not take --${foreign}`);
  const given = Object.entries(form.payload(words, args)).filter(([, value]) => value !== undefined);
  const payload = Object.fromEntries(given);
  const result = v.safeParse(clientPayloads[form.type] as v.GenericSchema, payload, { abortEarly: true });
  if (result.success) return { type: form.type, payload };
  const path = v.getDotPath(result.issues[0]) ?? "";
  throw new UsageError(`admin ${name}: ${optionOf[path] ?? path} ${result.issues[0].message}`);
}

/** Names a field as on the command line. */
const optionOf: Record<string, string> = {
  user_id: "the user",
  node_id: "--node",
  address: "--address",
  after: "--after",
  limit: "--limit",
  device_id: "--device",
  connection_id: "the connection",
  reason: "--reason",
  for: "the time",
  conversation_id: "the conversation",
  retention: "the retention",
};
