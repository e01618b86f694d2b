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

const microphone = { kind: "audio", stop() {} };

/** Finds nobody, and knows what it would send. */
class HandPeer extends EventTarget {
  static last: HandPeer;
  readonly sent: unknown[] = [];
  constructor() {
    super();
    HandPeer.last = this;
  }
  addTrack = (track: unknown) => this.sent.push(track);
  getSenders = () => [];
  createOffer = async () => ({ type: "offer", sdp: "" });
  async setLocalDescription() {}
  close() {}
}

/** Loads the page of the tab; `media` resolves once it may hear what is said. */
function load({ media = Promise.resolve() } = {}) {
  const page = {};
  stand("navigator", { locks: locks.of(page) });
  const core = quietCore();
  core.request = async () => ({}) as never;
  const calls = new Calls({
    ...{ core, url: "ws://here", clock: createHandClock({ settled }) },
    rtc: {
      RTCPeerConnection: HandPeer as never,
      MediaStream: class {} as never,
      getUserMedia: () => media.then(() => ({ getTracks: () => [microphone] }) as never),
    },
    onCall() {},
    onError(error) {
      throw error;
    },
  });
  core.onNews((news) => calls.take(news));
  return {
    calls,
    ids: () => calls.current.map(({ id }) => id),
    states: () => calls.current.map(({ current }) => current.state),
    tellSnapshot(ids: string[], state = "active") {
      const found = ids.map((call_id) => ({ call_id, state, peer_user_id: "ben", media: "audio" }));
      core.tell({ kind: "subscribed", topics: [{ topic: "calls:me", snapshot: { calls: found } } as never] });
    },
    tellAnswer(call_id: string) {
      const timestamp = new Date(0).toISOString();
      core.tell({ kind: "event", event: { id: "e", type: "call.answer", payload: { call_id, sdp: "" }, timestamp } });
    },
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

const answers = {
  "as it comes": (page: ReturnType<typeof load>, id: string) => page.tellAnswer(id),
  "by the next snapshot": (page: ReturnType<typeof load>, id: string) => page.tellSnapshot([id]),
};
for (const [how, tell] of Object.entries(answers))
  test(`[CALL7] told ${how} that it was answered, while it waits for the page before it, a page does not ring on`, async () => {
    const first = load();
    const { id } = first.calls.place("ben", { media: "audio" });
    await settled();

    const next = load();
    next.tellSnapshot([id], "ringing");
    tell(next, id);
    first.end();
    await settled();
    expect(next.states()).toEqual(["connecting"]);
  });

test("[CALL7] told that it was answered, while it has no microphone yet, a page sends it once it has one", async () => {
  const first = load();
  const { id } = first.calls.place("ben", { media: "audio" });
  await settled();
  first.end();

  let allow = () => {};
  const next = load({ media: new Promise<void>((resolve) => (allow = resolve)) });
  next.tellSnapshot([id], "ringing");
  await settled();
  expect(next.states()).toEqual(["ringing"]);
  next.tellAnswer(id);
  await settled();
  allow();
  await settled();
  expect(next.states()).toEqual(["connecting"]);
  expect(HandPeer.last.sent).toEqual([microphone]);
});
