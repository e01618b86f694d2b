/** Proves that the types which the client is published with are those of the schemas [ENV1] [ENV2]. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type * as v from "valibot";
import type { ClientPayloads, ServerPayloads } from "../../src/client/wire.ts";
import type { ClientMessageType, clientPayloads } from "../../src/protocol/client.ts";
import type { ServerMessageType, ServerPayload } from "../../src/protocol/server.ts";
import { wireTypes } from "../../src/protocol/wire-types.ts";

const root = join(import.meta.dir, "../..");

test("[ENV1] src/client/wire.ts is what `npm run generate` writes", () => {
  const formatter = [
    join(root, "node_modules/@biomejs/biome/bin/biome"),
    "format",
    "--stdin-file-path=src/client/wire.ts",
  ];
  const { stdout, success } = Bun.spawnSync([process.execPath, ...formatter, "--config-path=configs/lint.json"], {
    cwd: root,
    stdin: Buffer.from(wireTypes()),
  });
  expect(success).toBe(true);
  expect(stdout.toString()).toBe(readFileSync(join(root, "src/client/wire.ts"), "utf8"));
});

/** Names the types that the other lacks, or where its own may not stand. */
type Foreign<Given, Asked> = {
  [Type in keyof Given]: Type extends keyof Asked ? ([Given[Type]] extends [Asked[Type]] ? never : Type) : Type;
}[keyof Given];
type Taken = { [Type in ClientMessageType]: v.InferInput<(typeof clientPayloads)[Type]> };
type Read = { [Type in ClientMessageType]: v.InferOutput<(typeof clientPayloads)[Type]> };
type Said = { [Type in ServerMessageType]: ServerPayload<Type> };
type Strays =
  | Foreign<ClientPayloads, Taken>
  | Foreign<Read, ClientPayloads>
  | Foreign<Said, ServerPayloads>
  | Foreign<ServerPayloads, Said>;

test("[ENV2] every type means what its schema infers, which the type check says", () => {
  const isNone: [Strays] extends [never] ? true : false = true;
  // A field with a default may be left out by who asks.
  ({ topic: "conversation:c1" }) satisfies ClientPayloads["history"];
  expect(isNone).toBe(true);
});
