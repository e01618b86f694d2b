/** Plays `docs/backends.md` from its first line to its last: what it sets up, types and shows is so. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { freePorts } from "../support/free-ports.ts";
import { blocksOf, Reader } from "../support/page.ts";
import { postgresCommand } from "../support/postgres.ts";
import { program, projectFolder } from "../support/program.ts";
import { findServer } from "../support/redis.ts";

setDefaultTimeout(300_000);

const textOf = (file: string) => Bun.file(join(projectFolder, file)).text();
const page = await textOf("docs/backends.md");
const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(" ");

/** Shortens what an erasure waits for: a reader has most of a minute of it. */
const hurried = [
  ...["WS__STORAGE__QUERY_TIMEOUT=3s", "WS__PRESENCE__OFFLINE_GRACE=1s"],
  ...["WS__CLUSTER__HEARTBEAT=1s", "WS__CLUSTER__DEAD_AFTER=5s"],
];

/** The service's first. */
const portsOfPage = ["8086", "8087", "8088", "5433", "6380", "9000"];
let reader: Reader;
beforeAll(async () => {
  const ports = await freePorts(portsOfPage.length);
  const asPostgres = (name: string) => `exec ${quoted(postgresCommand(name))} "$@"`;
  reader = new Reader({
    replaced: Object.fromEntries(portsOfPage.map((port, index) => [port, String(ports[index])])),
    files: { "push-worker/push-worker.ts": await textOf("examples/push-worker/push-worker.ts") },
    programs: {
      "ws-service": `exec env ${quoted(hurried)} ${quoted(program)} "$@"`,
      bun: `exec '${process.execPath}' "$@"`,
      initdb: asPostgres("initdb"),
      pg_ctl: asPostgres("pg_ctl"),
      psql: asPostgres("psql"),
      "redis-server": `exec '${findServer()}' "$@"`,
    },
    cleanUp: "pg_ctl -D pg -m immediate stop",
    commandsMs: 150_000,
  });
});
afterAll(() => reader?.end());

test("[PUB2] [PUB3] [BAK2] [ADM2] everything that the page for backends runs, types and shows is so, in its order", async () => {
  const blocks = blocksOf(page);
  expect(blocks.length).toBe(page.match(/^```\w/gm)!.length);
  for (const block of blocks) await reader.play(block);
});
