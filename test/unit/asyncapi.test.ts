/** Holds the AsyncAPI document to the official parser, to the schemas and to the client's types, and its page to the document [ENV1] [ENV2]. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Parser } from "@asyncapi/parser";
import packageFile from "../../package.json" with { type: "json" };
import { type AsyncApi, asyncApi } from "../../src/protocol/asyncapi.ts";
import { asyncApiPage } from "../../src/protocol/asyncapi-page.ts";
import { clientMessageTypes } from "../../src/protocol/client.ts";
import { serverMessageTypes } from "../../src/protocol/server.ts";
import { projectFolder } from "../support/program.ts";

const document = asyncApi(packageFile.version);
/** Checks examples against their schemas, too. */
async function faultsOf(api: AsyncApi): Promise<string[]> {
  const { diagnostics } = await new Parser().parse(JSON.stringify(api));
  return diagnostics.map(({ message, path }) => `${path.join("/")}: ${message}`);
}

test("[ENV1] [ENV2] the official parser finds no fault in it, and would find one", async () => {
  expect(await faultsOf(document)).toEqual([]);
  const { messages } = document.components;
  const broken = {
    ...document,
    operations: { ping: { ...document.operations.ping!, channel: { $ref: "#/channels/none" } } },
  };
  const small = { ...broken, components: { messages: { "client.ping": messages["client.ping"]! } }, channels: {} };
  expect((await faultsOf(small as unknown as AsyncApi)).length).toBeGreaterThan(0);
}, 120_000);

test("[ENV1] [ENV2] every message is in it, with an example, and every request with its replies", () => {
  const { messages } = document.components;
  const keys = [
    ...clientMessageTypes.map((type) => `client.${type}`),
    ...serverMessageTypes.map((type) => `server.${type}`),
  ];
  expect(Object.keys(messages).sort()).toEqual(keys.sort());
  const bare = Object.entries(messages).filter(([, { examples }]) => examples.length === 0);
  expect(bare.map(([key]) => key)).toEqual([]);
  expect(Object.keys(document.operations).sort()).toEqual([...clientMessageTypes, "events"].sort());
});

test("[ENV1] [ENV2] docs/asyncapi.html is what `npm run generate` writes", () => {
  expect(readFileSync(join(projectFolder, "docs/asyncapi.html"), "utf8")).toBe(asyncApiPage(document));
});
