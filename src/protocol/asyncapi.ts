/** Writes the protocol as an AsyncAPI 3 document: payloads from the schemas, words and examples from the protocol's page [ENV1] [ENV2]. */
import { toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import page from "../../docs/protocol.md" with { type: "text" };
import { clientPayloads } from "./client.ts";
import { subprotocols } from "./limits.ts";
import { replyTypeOf, replyTypes } from "./replies.ts";
import { serverEnvelope, serverPayloads } from "./server.ts";

export type JsonSchema = Record<string, unknown>;

export interface Message {
  name: string;
  title: string;
  description: string;
  payload: JsonSchema;
  examples: { payload: unknown }[];
}

export interface AsyncApi {
  asyncapi: "3.1.0";
  info: { title: string; version: string; description: string; license: { name: string; url: string } };
  defaultContentType: string;
  servers: Record<string, object>;
  channels: { ws: { address: string; messages: Record<string, object>; [name: string]: unknown } };
  operations: Record<string, { action: "send" | "receive"; [name: string]: unknown }>;
  components: { messages: Record<string, Message> };
}

type Side = "client" | "server";
type AnySchema = v.GenericSchema & { type: string; pipe?: AnySchema[]; kind?: string };

/** An object that is looked at before it is taken apart is what it is taken apart to; any other is free. */
function overriding({ valibotSchema }: { valibotSchema: unknown }): JsonSchema | undefined {
  const { type, pipe = [] } = valibotSchema as AnySchema;
  if (type !== "custom") return undefined;
  const inner = pipe.slice(1).findLast(({ kind }) => kind === "schema");
  return inner === undefined ? { type: "object" } : schemaOf(inner, "client");
}

function schemaOf(schema: v.GenericSchema, side: Side): JsonSchema {
  const options = {
    errorMode: "ignore",
    typeMode: side === "client" ? "input" : "output",
    overrideSchema: overriding,
  } as const;
  const { $schema, ...json } = toJsonSchema(schema as never, options);
  return json;
}

/** Finds what the page says under a heading: its words up to the first example, and its examples. */
function sectionOf(side: Side, type: string): { text: string; examples: unknown[] } {
  const heading = `### ${side === "client" ? "Client" : "Server"}: \`${type}\`\n`;
  const start = page.indexOf(heading);
  const section = start < 0 ? "" : page.slice(start + heading.length).split(/^##+ /m)[0]!;
  const frames = [...section.matchAll(/^```json\n([\s\S]*?)^```/gm)].flatMap(([, lines]) => lines!.trim().split("\n"));
  const examples = frames.map((line) => JSON.parse(line) as { type: string }).filter((frame) => frame.type === type);
  const text = section.split(/^```/m)[0]!.trim();
  return {
    text: text.replaceAll(/\]\(([#\w][^)]*)\)/g, (_whole: string, to: string) => `](${linkOf(to)})`),
    examples: examples.filter((it) => isOf(side, it)),
  };
}

/** Links of the page lead on from beside it. */
const linkOf = (to: string) => (to.startsWith("#") ? `protocol.md${to}` : to);
/** Only the server says when. */
const isOf = (side: Side, frame: object) => "timestamp" in frame === (side === "server");

const requestEnvelope: JsonSchema = {
  id: { type: "string", minLength: 1, maxLength: 64 },
  timestamp: { type: ["string", "number"] },
  traceparent: { type: "string" },
};

function messageOf(side: Side, type: string, schema: v.GenericSchema): Message {
  const { text, examples } = sectionOf(side, type);
  const payload = schemaOf(schema, side);
  const envelope = side === "client" ? requestEnvelope : (schemaOf(serverEnvelope, side).properties as JsonSchema);
  const mayBeEmpty =
    side === "client" && ((payload.required as string[] | undefined) ?? []).length === 0 && payload.anyOf === undefined;
  return {
    name: type,
    title:
      side === "client" ? `${type} (request)` : replyTypes.has(type) ? `${type} (reply or event)` : `${type} (event)`,
    description: text,
    payload: {
      type: "object",
      properties: { ...envelope, type: { const: type }, payload },
      required: ["id", "type", ...(side === "server" ? ["timestamp", "payload"] : mayBeEmpty ? [] : ["payload"])],
    },
    examples: examples.map((payload) => ({ payload })),
  };
}

/** `message.send` → `client.message.send`: both sides have messages of one name. */
const keyOf = (side: Side, type: string) => `${side}.${type}`;
const inChannel = (key: string) => ({ $ref: `#/channels/ws/messages/${key}` });

/** @param version of the service */
export function asyncApi(version: string): AsyncApi {
  const messages: Record<string, Message> = {};
  for (const [type, schema] of Object.entries(clientPayloads))
    messages[keyOf("client", type)] = messageOf("client", type, schema);
  for (const [type, schema] of Object.entries(serverPayloads))
    messages[keyOf("server", type)] = messageOf("server", type, schema);
  const channel = { $ref: "#/channels/ws" };
  const operations: AsyncApi["operations"] = {};
  for (const type of Object.keys(clientPayloads) as (keyof typeof clientPayloads)[]) {
    const answers = [replyTypeOf(type), ...(type === "authenticate" ? ["auth.failed"] : []), "error"];
    operations[type] = {
      action: "receive",
      summary: `A client sends ${type}`,
      channel,
      messages: [inChannel(keyOf("client", type))],
      reply: { channel, messages: answers.map((answer) => inChannel(keyOf("server", answer))) },
    };
  }
  operations.events = {
    action: "send",
    summary: "The service tells a client",
    channel,
    messages: Object.keys(serverPayloads).map((type) => inChannel(keyOf("server", type))),
  };
  return {
    asyncapi: "3.1.0",
    info: {
      title: "ws-service",
      version,
      description:
        'Messages, presence, typing, receipts and call signaling over one WebSocket. What the words mean, and in which order things come, is on the page "Writing a client".',
      license: { name: "Apache 2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    defaultContentType: "application/json",
    servers: {
      local: {
        host: "localhost:8086",
        protocol: "ws",
        description: "As it starts out of the box; others are behind TLS (wss).",
      },
    },
    channels: {
      ws: {
        address: "/ws",
        description: `Subprotocol ${subprotocols.json}, or none.`,
        bindings: { ws: { method: "GET", query: connectQuery, bindingVersion: "0.1.0" } },
        messages: Object.fromEntries(
          Object.keys(messages).map((key) => [key, { $ref: `#/components/messages/${key}` }]),
        ),
      },
    },
    operations,
    components: { messages },
  };
}

/** Lists what stands in the URL of a connection [CON2] [CON3]. */
const connectQuery: JsonSchema = {
  type: "object",
  properties: {
    user_id: { type: "string", description: "who this is, where the server runs with auth.mode trusted" },
    roles: { type: "string", description: "service, admin or both with a comma; in trusted mode" },
    token: { type: "string", description: "a JWT, where the server runs with auth.mode token" },
    device_id: { type: "string", description: "which device this is" },
    since: { type: "string", description: "a cursor, or acked: the user's own topics catch up from there" },
  },
};
