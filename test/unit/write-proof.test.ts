/** Proves how much an engine has to take again after it has refused an append, before it counts as taking writes [END2]. */
import { expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { createWriteProof } from "../../src/storage/write-proof.ts";
import { newEvent, newEvents } from "../support/new-event.ts";

/** An engine with so much room; an append that it takes leaves it as it is. */
function engineWith(room: { bytes: number; isTaking: boolean }) {
  const written: number[] = [];
  const full = new Unavailable("storage", "full");
  const proof = createWriteProof({
    async append() {
      if (!room.isTaking) throw full;
      return { previousPosition: 0, appended: [] };
    },
    async write(bytes) {
      written.push(bytes);
      if (bytes > room.bytes) throw full;
    },
    writes: { began() {}, ended() {} },
  });
  return { ...proof, written };
}

const kib = 1_024;

test("[END2] what was refused is owed with the pages that it would have written, and proven by as much", async () => {
  const room = { bytes: 64 * kib, isTaking: false };
  const { append, proveWrites, hasRefused, written } = engineWith(room);
  await proveWrites();
  expect([written, hasRefused()]).toEqual([[0], false]);
  await append(newEvents("user:anna", 3, { payload: "x".repeat(kib) })).catch(() => {});
  expect(hasRefused()).toBe(true);
  // A smaller one that is refused as well owes no less.
  await append([newEvent("user:anna")]).catch(() => {});
  await expect(proveWrites()).rejects.toThrow("full");
  expect(hasRefused()).toBe(true);
  room.bytes = kib * kib;
  await proveWrites();
  expect(hasRefused()).toBe(false);
  expect(written.slice(1)).toEqual([(96 + 3 * 33) * kib, (96 + 3 * 33) * kib]);
  await proveWrites();
  expect(written.at(-1)).toBe(0);
});

test("[END2] an append that is taken is proof as well, and a proof has an end", async () => {
  const room = { bytes: 64 * kib, isTaking: false };
  const { append, proveWrites, hasRefused, written } = engineWith(room);
  await append(newEvents("user:anna", 5_000)).catch(() => {});
  await proveWrites().catch(() => {});
  expect(written).toEqual([10 * kib * kib]);
  room.isTaking = true;
  await append([newEvent("user:anna")]);
  expect(hasRefused()).toBe(false);
});

test("[END2] where a read has met damage no answer from before it is believed, until a write was taken", async () => {
  const { append, hasRefused, expectRefusal } = engineWith({ bytes: 64 * kib, isTaking: true });
  expectRefusal(new Error("malformed"));
  expect(hasRefused()).toBe(true);
  await append([newEvent("user:anna")]);
  expect(hasRefused()).toBe(false);
});
