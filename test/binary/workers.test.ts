/** Proves that the compiled binary starts itself as workers: one port, messages across, a crash, and the end. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { type Ground, layGround } from "../support/ground.ts";
import { runBinary } from "../support/program.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let ground: Ground;
beforeAll(async () => {
  ground = await layGround();
});
afterAll(() => ground?.stop());

test("the binary makes the schema in PostgreSQL from the SQL that it carries, and finds nothing missing", async () => {
  const env = { WS__STORAGE__URL: await ground.newDatabase() };
  const made = await runBinary(["migrate"], { cwd: "/", env });
  expect(made).toMatchObject({ code: 0, stderr: "" });
  expect(made.stdout).toMatch(/: schema made, version \d+\n$/);
  expect(await runBinary(["config", "check"], { cwd: "/", env })).toEqual({ code: 0, stdout: "ok\n", stderr: "" });
});

test("[MSG1] [PRE4] [DRN] workers of the binary are one service, started again where they crash, and end as one", async () => {
  const words = ["serve", "--workers", "2"];
  const service = await startService({ isBinary: true, words, settings: ground.settings });
  try {
    await service.logged(({ msg }) => msg === "all workers are up");
    const clients = await Promise.all(
      Array.from({ length: 20 }, (_, index) => Client.connect(service.url, { query: { user_id: `u${index}` } })),
    );
    for (const client of clients) await client.ask("subscribe", { topics: ["conversation:c1"] });
    await clients[0]!.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
    await Promise.all(clients.slice(1).map((client) => client.next("message.new")));
    // The one worker knows of the other's by the Lua that is in the binary.
    const { users } = await clients[0]!.ask("presence.query", { user_ids: clients.map((_, index) => `u${index}`) });
    expect(users.map(({ status }: { status: string }) => status)).toEqual(clients.map(() => "online"));

    const up = await service.logged(({ msg, worker }) => msg === "a worker is up" && worker === 2);
    process.kill(up.pid as number, "SIGKILL");
    await service.logged(({ msg, worker, pid }) => msg === "a worker is up" && worker === 2 && pid !== up.pid);
    service.signal("SIGTERM");
    const closings = await Promise.all(clients.map((client) => client.closed));
    expect(new Set(closings.map(({ code }) => code))).toEqual(new Set([1006, 1012]));
    expect(await service.exited).toBe(0);
  } finally {
    await service.stop();
  }
});
