/** Proves that `bun --hot` puts edited handlers in place under open sockets, and survives a broken edit. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { projectFolder } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";

let copy: string;
let handlers: string;
let original: string;
let service: Service;

beforeAll(async () => {
  copy = mkdtempSync(join(tmpdir(), "ws-hot-"));
  for (const name of ["src", "package.json", "tsconfig.json"])
    cpSync(join(projectFolder, name), join(copy, name), { recursive: true });
  symlinkSync(join(projectFolder, "node_modules"), join(copy, "node_modules"));
  handlers = join(copy, "src/handlers/connection.ts");
  original = readFileSync(handlers, "utf8");
  service = await startService({ runtimeArgs: ["--hot"], entry: join(copy, "src/main.ts") });
});
afterAll(async () => {
  await service?.stop();
  rmSync(copy, { recursive: true, force: true });
});

/** Makes `ping` say which edit answered it. */
function edit(number: number): void {
  const edited = original.replace(
    "  payload: {\n    server_time:",
    `  payload: {\n    edit: ${number},\n    server_time:`,
  );
  expect(edited).not.toBe(original);
  writeFileSync(handlers, edited);
}

/** Asks until the answer is from that edit: the watcher tells nobody when it is done. */
async function answeredBy(client: Client, number: number): Promise<void> {
  while ((await client.ask("ping")).edit !== number);
}

test("[DRN] an edited handler answers the same socket; subscriptions and presence stay; SIGTERM still drains", async () => {
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((user_id) => Client.connect(service.url, { query: { user_id } })),
  );
  for (const client of [anna!, ben!])
    await client.ask("subscribe", { topics: ["conversation", "presence"], filters: { conversation_id: "c1" } });
  expect((await anna!.ask("ping")).edit).toBeUndefined();

  // More often than a listener that piled up at each reload could do without a warning.
  for (let number = 1; number <= 12; number++) {
    edit(number);
    await answeredBy(anna!, number);
  }
  await answeredBy(ben!, 12);
  const ack = await anna!.ask("message.send", {
    conversation_id: "c1",
    client_message_id: "m1",
    content: "still here",
  });
  expect(await ben!.next("message.new")).toMatchObject({ id: ack.message_id, topic: "conversation:c1" });
  const { users } = await ben!.ask("presence.query", { user_ids: ["anna"] });
  expect(users[0]).toMatchObject({ user_id: "anna", status: "online" });
  expect(ben!.all("presence.offline")).toEqual([]);

  // A broken edit is told, and the former handlers go on.
  writeFileSync(handlers, `${original}\nconst = broken;\n`);
  await service.complained((line) => line.includes("handlers/connection.ts"));
  expect((await anna!.ask("ping")).edit).toBe(12);
  edit(13);
  await answeredBy(anna!, 13);
  expect(service.errors.join("\n")).not.toContain("MaxListeners");

  service.signal("SIGTERM");
  expect(await anna!.closed).toMatchObject({ code: 1012 });
  expect(await service.exited).toBe(0);
}, 60_000);
