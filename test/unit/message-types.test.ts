/** Tells what a message type still lacks, so that nobody has to remember: examples of all its fields, and a test that sends or sees it. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { clientMessageTypes, clientPayloads } from "../../src/protocol/client.ts";
import { serverMessageTypes, serverPayloads } from "../../src/protocol/server.ts";
import { clientExamples, serverExamples } from "../support/examples.ts";
import { type AnySchema, fieldsOf } from "../support/schema-fields.ts";

const root = resolve(import.meta.dir, "../..");

test.each([
  ["client", clientPayloads, clientExamples],
  ["server", serverPayloads, serverExamples],
] as const)("[ENV1] [ENV2] every field of a %s message is in one of its examples", (_, schemas, examples) => {
  const lacking = Object.entries(schemas as Record<string, unknown>).flatMap(([type, schema]) => {
    const shown = new Set((examples as Record<string, object[]>)[type]?.flatMap((payload) => Object.keys(payload)));
    const names = fieldsOf(schema as AnySchema).map(({ path }) => path[0]!);
    return names.filter((name) => !/^\d+$|^\*$/.test(name) && !shown.has(name)).map((name) => `${type}.${name}`);
  });
  expect([...new Set(lacking)]).toEqual([]);
});

test("[ENV1] [ENV2] every message type is sent or seen in a test of the running service", () => {
  const files = [...new Bun.Glob("test/{integration,cluster,binary,browser}/*.ts").scanSync({ cwd: root })];
  const texts = files.map((file) => readFileSync(join(root, file), "utf8")).join("\n");
  expect([...clientMessageTypes, ...serverMessageTypes].filter((type) => !texts.includes(`"${type}"`))).toEqual([]);
});
