/** Proves when the log is asked for what was sent before, and what its sender is told then [LOG2]. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { sentBefore } from "../../src/handlers/sent-before.ts";
import { ProtocolError } from "../../src/protocol/errors.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { newEvent } from "../support/new-event.ts";

let storage: Storage;
beforeAll(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
});
afterAll(() => storage.stop());

const allow = async () => {};
const refuseWith = (error: Error) => async () => {
  throw error;
};
const forbidden = new ProtocolError("forbidden", "You may read this conversation, and not write in it.");

/** The log, which counts how often it is asked. */
function counted() {
  let asked = 0;
  const find: Storage["log"]["find"] = (once) => {
    asked++;
    return storage.log.find(once);
  };
  return { services: { log: { find } }, asked: () => asked };
}

test("[LOG2] the log is not asked where the sender may go on, has given no key, or is refused for something else", async () => {
  const { services, asked } = counted();
  const request = { from: { ahead: null }, services };
  const once = { keys: ["known"], digest: "one" };
  await storage.log.append([newEvent("conversation:c", { once })]);
  expect(await sentBefore(request, once, allow)).toBeUndefined();
  await expect(sentBefore(request, undefined, refuseWith(forbidden))).rejects.toBe(forbidden);
  for (const error of [
    new ProtocolError("conflict", "So."),
    new Unavailable("storage", "Away."),
    new TypeError("wrong"),
  ])
    await expect(sentBefore(request, once, refuseWith(error))).rejects.toBe(error);
  expect(asked()).toBe(0);
  expect(await sentBefore(request, once, refuseWith(forbidden))).toMatchObject({ duplicate: true });
  expect(asked()).toBe(1);
});

test("[LOG2] [ENV7] what the same connection has sent before is in the log when that is asked", async () => {
  const { services, asked } = counted();
  const once = { keys: ["on its way"], digest: "one" };
  const answered = Promise.withResolvers<void>();
  const answer = sentBefore({ from: { ahead: answered.promise }, services }, once, refuseWith(forbidden));
  const { appended } = await storage.log.append([newEvent("conversation:c", { once })]);
  expect(asked()).toBe(0);
  answered.resolve();
  expect(await answer).toEqual({ ...appended[0]!, duplicate: true });
});

test("[LOG2] it cannot be known, and is not refused for good, while the storage is away", async () => {
  const away = new Unavailable("storage", "Away.");
  const request = { from: { ahead: null }, services: { log: { find: refuseWith(away) } } };
  await expect(sentBefore(request, { keys: ["k"] }, refuseWith(forbidden))).rejects.toBe(away);
});
