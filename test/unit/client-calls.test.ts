/** Shows that a call goes on in a page that is loaded anew, whatever it is told meanwhile, by locks that are held by hand [CALL7]. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Calls } from "../../src/client/calls/calls.ts";
import { createHandClock } from "../support/hand-clock.ts";
import { HandLocks } from "../support/hand-locks.ts";
import { quietCore } from "../support/quiet-core.ts";

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
const globals = globalThis as Record<string, unknown>;
const stood = ["document", "BroadcastChannel", "sessionStorage", "navigator"].map(
  (name) => [name, Object.getOwnPropertyDescriptor(globals, name)] as const,
);
const stand = (name: string, value: unknown) =>
  Object.defineProperty(globals, name, { value, configurable: true, writable: true });
afterEach(() => {
  for (const [name, before] of stood)
    if (before === undefined) delete globals[name];
    else Object.defineProperty(globals, name, before);
});

let locks: HandLocks;
/** Kept of the tab, beyond each page. */
let kept: Map<string, string>;
beforeEach(() => {
  locks = new HandLocks();
  kept = new Map();
  stand("document", {});
  stand(
    "BroadcastChannel",
    class extends EventTarget {
      postMessage() {}
    },
  );
  stand("sessionStorage", {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
    removeItem: (key: string) => kept.delete(key),
  });
});

/** Loads the page of the tab. */
function load() {
  const page = {};
  stand("navigator", { locks: locks.of(page) });
  const core = quietCore();
  const calls = new Calls({
    ...{ core, url: "ws://here", clock: createHandClock({ settled }) },
    // A way to each other is of no matter here.
    iceServers: () => new Promise<never>(() => {}),
    rtc: {
      MediaStream: class {} as never,
      getUserMedia: async () => ({ getTracks: () => [] }) as never,
    },
    onCall() {},
    onError(error) {
      throw error;
    },
  });
  core.onNews((news) => calls.take(news));
  const found = { state: "active", peer_user_id: "ben", media: "audio" } as const;
  return {
    calls,
    ids: () => calls.current.map(({ id }) => id),
    tellSnapshot: (ids: string[]) =>
      core.tell({
        kind: "subscribed",
        topics: [{ topic: "calls:me", snapshot: { calls: ids.map((call_id) => ({ call_id, ...found })) } } as never],
      }),
    end: () => locks.end(page),
  };
}

test("[CALL7] told again what there was before the call, while it waits for the page before it, a page has the call and keeps it", async () => {
  const first = load();
  const { id } = first.calls.place("ben", { media: "audio" });
  await settled();

  const next = load();
  for (const ids of [[id], [], [id]]) next.tellSnapshot(ids);
  await settled();
  expect(next.ids()).toEqual([]);
  first.end();
  await settled();
  expect(next.ids()).toEqual([id]);

  next.end();
  const last = load();
  last.tellSnapshot([id]);
  await settled();
  expect(last.ids()).toEqual([id]);
});

test("[CALL7] told that the call is over, while it waits for the page before it, a page lets it go", async () => {
  const first = load();
  const { id } = first.calls.place("ben", { media: "audio" });
  await settled();
  expect(kept.size).toBe(1);

  const next = load();
  for (const ids of [[id], []]) next.tellSnapshot(ids);
  first.end();
  await settled();
  expect(next.ids()).toEqual([]);
  expect(kept.size).toBe(0);
});
