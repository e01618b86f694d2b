/** What may be typed after `ws-service admin`, and the request that each form stands for [ADM2]. */
import * as v from "valibot";
import { type ClientMessageType, clientPayloads } from "../protocol/client.ts";
import { type CommandArgs, UsageError } from "./command.ts";

export interface AdminRequest {
  type: Extract<ClientMessageType, `admin.${string}`>;
  payload: Record<string, unknown>;
}

interface Form {
  /** What stands for the words after the name. */
  words: string;
  /** How many words it takes at least, and at most. */
  least: number;
  most: number;
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
const page = (args: CommandArgs) => ({
  after: args.value("after"),
  limit: args.value("limit") === undefined ? undefined : Number(args.value("limit")),
});

/** By its name, one word or two. */
export const forms: Record<string, Form> = {
  stats: { ...none, type: "admin.stats", payload: () => ({}) },
  nodes: { ...none, type: "admin.nodes", payload: () => ({}) },
  connections: {
    ...none,
    type: "admin.connections",
    payload: (_, args) => ({
      user_id: args.value("of"),
      node_id: args.value("node"),
      address: args.value("address"),
      ...page(args),
    }),
  },
  connection: {
    words: "<connection>",
    least: 1,
    most: 1,
    type: "admin.connection",
    payload: ([connection_id]) => ({ connection_id }),
  },
  disconnect: {
    ...none,
    type: "admin.disconnect",
    payload: (_, args) => ({
      user_id: args.value("of"),
      connection_id: args.value("connection"),
      device_id: args.value("device"),
      reason: args.value("reason"),
    }),
  },
  topics: {
    words: "[<prefix>]",
    least: 0,
    most: 1,
    type: "admin.topics",
    payload: ([prefix], args) => ({ prefix, ...page(args) }),
  },
  topic: { words: "<topic>", least: 1, most: 1, type: "admin.topic", payload: ([topic]) => ({ topic }) },
  subscribe: { ...topics, type: "admin.subscribe" },
  unsubscribe: { ...topics, type: "admin.unsubscribe" },
  block: {
    words: "<user> <for>",
    least: 2,
    most: 2,
    type: "admin.block",
    payload: ([user_id, length], args) => ({
      user_id,
      for: /^\d+$/.test(length!) ? Number(length) : length,
      reason: args.value("reason"),
    }),
  },
  "members add": { ...members, type: "admin.members.add" },
  "members remove": { ...members, type: "admin.members.remove" },
  "users upsert": {
    words: "<user>…",
    least: 1,
    most: many,
    type: "admin.users.upsert",
    payload: (user_ids) => ({ user_ids: [...user_ids] }),
  },
  "users disable": { ...able(true), type: "admin.users.disable" },
  "users enable": { ...able(false), type: "admin.users.disable" },
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
  const given = Object.entries(form.payload(words, args)).filter(([, value]) => value !== undefined);
  const payload = Object.fromEntries(given);
  const result = v.safeParse(clientPayloads[form.type] as v.GenericSchema, payload, { abortEarly: true });
  if (result.success) return { type: form.type, payload };
  const path = v.getDotPath(result.issues[0]) ?? "";
  throw new UsageError(`admin ${name}: ${optionOf[path] ?? path} ${result.issues[0].message}`);
}

/** What a field is called on the command line. */
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
};
