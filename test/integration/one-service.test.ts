/** Proves that a SQLite file is one service's at a time, and that nothing of a service that died keeps the next one out. */

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { firstFile } from "../support/first-release.ts";
import { program } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let first: Service;

beforeAll(async () => {
  first = await startService();
});
afterAll(() => first?.stop());

const refusalOf = (start: Promise<Service>): Promise<string> =>
  start.then(
    async (service) => {
      await service.kill();
      return "It has started.";
    },
    (error: Error) => error.message,
  );

const send = async (service: Service, client_message_id: string) => {
  const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
  const { seq } = await anna.ask("message.send", { conversation_id: "c1", client_message_id, content: "x" });
  await anna.close();
  return seq;
};

async function migrate(cwd: string, path: string) {
  const env = { PATH: process.env.PATH ?? "", WS__STORAGE__URL: `sqlite:${path}`, WS__STORAGE__QUERY_TIMEOUT: "300ms" };
  const migrated = Bun.spawn([...program, "migrate"], { cwd, env, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([migrated.stdout.text(), migrated.stderr.text()]);
  return { stdout, stderr, code: await migrated.exited };
}

test("[LOG1] a second service on the file is refused and says why, and the first one goes on", async () => {
  expect(await send(first, "m1")).toBe(1);
  const refusal = await refusalOf(startService({ folder: first.folder }));
  expect(refusal).toContain("storage.url: data/ws-service.db is in use by another service");
  expect(await send(first, "m2")).toBe(2);
});

test("[LOG1] the same file by another name is the same one", async () => {
  const other = join(first.folder, "other");
  mkdirSync(other);
  symlinkSync(join(first.folder, "data/ws-service.db"), join(other, "by-file.db"));
  symlinkSync(join(first.folder, "data"), join(other, "by-folder"));
  const paths = ["other/by-file.db", "other/by-folder/ws-service.db"];
  const starts = paths.map((path) =>
    startService({ folder: first.folder, settings: { STORAGE__URL: `sqlite:${path}` } }),
  );
  const refusals = await Promise.all(starts.map(refusalOf));
  for (const [at, path] of paths.entries())
    expect(refusals[at]).toContain(`storage.url: ${path} is in use by another service`);
});

test("[LOG1] migrations and other programs get in while a service runs", async () => {
  expect(await migrate(first.folder, "data/ws-service.db")).toEqual({
    stdout: expect.stringMatching(/^sqlite:data\/ws-service\.db: schema is at version \d+ already\n$/),
    stderr: "",
    code: 0,
  });
});

test("[LOG1] a file that a service of an older version runs on is not migrated under it", async () => {
  const path = join(first.folder, "data/old.db");
  const old = new Database(path, { create: true });
  old.exec(firstFile);
  old.close();
  // Held as the first release holds it.
  const held = new Database(`${path}-lock`, { create: true });
  held.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  const refusal = "data/old.db is in use by another service, and only one at a time may use it.";
  expect(await migrate(first.folder, "data/old.db")).toEqual({
    stdout: "",
    stderr: `sqlite:data/old.db: not migrated: ${refusal}\n`,
    code: 1,
  });
  held.close();
  expect(await migrate(first.folder, "data/old.db")).toEqual({
    stdout: expect.stringMatching(/: schema upgraded from version 2 to \d+\n$/),
    stderr: "",
    code: 0,
  });
});

test("[LOG1] the successor of a service that was killed starts at once, and so does that of one that has stopped", async () => {
  const { folder } = first;
  const killed = first.kill();
  // Not waited for: the killed one may still be on its way out.
  const second = await startService({ folder });
  await killed;
  expect(await send(second, "m3")).toBe(3);
  second.signal("SIGTERM");
  expect(await second.exited).toBe(0);
  first = await startService({ folder });
  expect(await send(first, "m4")).toBe(4);
  // Nothing is ever written to the lock, so nothing has to be mended or removed.
  expect(statSync(join(folder, "data/ws-service.db-lock")).size).toBe(0);
  expect(existsSync(join(folder, "data/ws-service.db-lock-journal"))).toBe(false);
});

test("[LOG1] in memory every service has its own", async () => {
  const settings = { STORAGE__URL: "sqlite::memory:" };
  const [one, other] = await Promise.all([startService({ settings }), startService({ settings })]);
  expect([await send(one!, "m1"), await send(other!, "m1")]).toEqual([1, 1]);
  expect(existsSync(join(one!.folder, ":memory:-lock"))).toBe(false);
  await Promise.all([one!.stop(), other!.stop()]);
});
