/** Proves that the longest list there may be comes whole to a client that is slow to take it, and stops nobody else [CON7] [REC3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pages } from "../../src/ground/pages.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { newEvent } from "../support/new-event.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

/** Topics of a connection are 10,000 at most, its own among them. */
const ids = Array.from({ length: 9_990 }, (_, index) => `c${index}`);
const payload = JSON.stringify({ sender_id: "ben", content: "See you at eight, then. ".repeat(20) });
let service: Service;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-list-slow-"));
  const path = join(folder, "list.db");
  const storage = createSqliteStorage({ path });
  await storage.start();
  for (const page of pages(ids, 1_000)) {
    await storage.directory.addMemberships("anna", page);
    await storage.log.append(page.map((id) => newEvent(`conversation:${id}`, { senderId: "ben", payload })));
  }
  await storage.stop();
  service = await startService({ settings: { STORAGE__URL: `sqlite:${path}` } });
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true, force: true });
});
const { connect, gather } = createPeople(() => service.url);

test("[CON7] [REC3] a client that does not read for a while is sent as many conversations as there may be, whole, and others go on meanwhile", async () => {
  const anna = await RawSocket.open(`${service.url}?user_id=anna`);
  const admin = await connect(fresh("admin"), { roles: "admin" });
  const waiting = async () => {
    const { connections } = await admin.ask("admin.connections", { user_id: "anna" });
    return connections[0]?.buffered_bytes as number | undefined;
  };
  await anna.request("ping");
  anna.stopReading();
  const id = anna.send("subscribe", { topics: ["conversation"] });
  await eventually(waiting, (bytes) => bytes === undefined || bytes > 0);
  const c = fresh("c");
  const [ben, carl] = await gather(c, [fresh("ben"), fresh("carl")]);
  await sendAll(ben!, c, ["hello"]);
  await carl!.next("message.new");
  expect(await waiting()).toBeGreaterThan(0);
  anna.startReading();
  const answer = await anna.find(({ reply_to }) => reply_to === id);
  const { topics } = answer.payload;
  expect(topics).toHaveLength(ids.length);
  expect(topics.every(({ snapshot }: any) => snapshot.unread === 1)).toBe(true);
  expect(topics.filter(({ snapshot }: any) => snapshot.last_message !== undefined)).toHaveLength(ids.length);
  await anna.request("ping");
  anna.destroy();
});
