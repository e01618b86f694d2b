/** Writes the payload schemas as plain TypeScript types, which the client is published with: `npm run generate`. */
import { join } from "node:path";
import type * as v from "valibot";
import { clientMessageTypes, clientPayloads } from "./client.ts";
import { content, freeObject } from "./fields.ts";
import { replyTypeOf } from "./replies.ts";
import { bare, type Part } from "./schema-parts.ts";
import { serverPayloads } from "./server.ts";

/** Schemas that stand under a name of their own wherever they are used. */
const named = new Map<unknown, string>([[content, "Content"]]);

function typeOf(schema: Part): string {
  const known = named.get(schema);
  if (known !== undefined) return known;
  const inner = bare(schema);
  switch (inner.type) {
    case "string":
    case "number":
    case "boolean":
      return inner.type;
    case "picklist":
      return inner.options!.map((option) => JSON.stringify(option)).join(" | ");
    case "literal":
      return JSON.stringify(inner.literal);
    case "array":
      return listOf(typeOf(inner.item!));
    case "record":
      return `Record<string, ${typeOf(inner.value!)}>`;
    case "object":
      return objectOf(inner.entries!);
    case "union":
      return [...new Set(inner.options!.map((option) => typeOf(option)))].join(" | ");
    case "optional":
      return typeOf(inner.wrapped!);
    case "nullable":
      return `${typeOf(inner.wrapped!)} | null`;
    case "custom":
      if (inner === (freeObject as unknown)) return "JsonObject";
  }
  throw new TypeError(`A schema of type ${inner.type} has no type to write.`);
}

const listOf = (item: string) => (item.includes(" | ") ? `(${item})[]` : `${item}[]`);

function objectOf(entries: Record<string, Part>): string {
  const fields = Object.entries(entries).map(([name, schema]) => {
    const isOptional = bare(schema).type === "optional";
    return `${name}${isOptional ? "?" : ""}: ${typeOf(schema)}`;
  });
  return fields.length === 0 ? "Record<string, never>" : `{ ${fields.join("; ")} }`;
}

const tableOf = (name: string, says: string, payloads: Record<string, v.GenericSchema>) =>
  [
    `/** ${says} */`,
    `export interface ${name} {`,
    ...Object.entries(payloads).map(
      ([type, schema]) => `  ${JSON.stringify(type)}: ${typeOf(schema as unknown as Part)};`,
    ),
    "}",
  ].join("\n");

const repliesTable = [
  "/** Names what answers a request; `ack` where no other type is named. */",
  "export interface ReplyTypes {",
  ...clientMessageTypes
    .map((type) => [type, replyTypeOf(type)] as const)
    .filter(([, reply]) => reply !== "ack")
    .map(([type, reply]) => `  ${JSON.stringify(type)}: ${JSON.stringify(reply)};`),
  "}",
].join("\n");

/** The text of `src/client/wire.ts`. */
export function wireTypes(): string {
  return `${[
    "/** The payload of every message of the wire, written by `npm run generate` from the schemas of the protocol. */",
    "export type JsonObject = Record<string, unknown>;",
    "/** The content of a message: text, or an object of the application's. */\nexport type Content = string | JsonObject;",
    tableOf("ClientPayloads", "Payloads that a client sends, by type.", clientPayloads),
    repliesTable,
    tableOf("ServerPayloads", "Payloads that the server sends, by type.", serverPayloads),
  ].join("\n\n")}\n`;
}

if (import.meta.main) await Bun.write(join(import.meta.dir, "../client/wire.ts"), wireTypes());
