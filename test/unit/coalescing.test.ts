/** Proves that events which are written together come to each connection as if each had been written by itself [WIRE1]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Broadcaster } from "../../src/broadcast/broadcaster.ts";
import { build, topics, coalescedMs as windowMs } from "../support/coalescing-node.ts";
import { type NativeSocket, readFrame as read } from "../support/native-sockets.ts";

/** An application's own. */
const noteType: string = "note";
const notesOf = ({ frames }: NativeSocket) => frames.map((frame) => read(frame).payload.nth);

function buildBroadcaster(options: Parameters<typeof build>[0]) {
  const built = build(options);
  const broadcaster = new Broadcaster(built.common);
  let nth = 0;
  const say = (topic = "typing:c1", audience = {}) =>
    void broadcaster.toTopic(topic, { type: noteType, payload: { nth: ++nth } }, audience);
  /** Says which topic it is of. */
  const sayOf = (topic: string, audience: object) =>
    void broadcaster.toTopic(topic, { type: noteType, payload: { nth: `${topic}#${++nth}` } }, audience);
  return { ...built, broadcaster, say, sayOf };
}

test("[WIRE1] the first event goes out at once, those that follow within the window at its end, then the next window begins", async () => {
  const { clock, sockets, say } = buildBroadcaster({ windowMs });
  const [one] = sockets as [NativeSocket];
  say();
  expect(notesOf(one)).toEqual([1]);
  say();
  say();
  await clock.pass(windowMs - 1);
  expect(notesOf(one)).toEqual([1]);
  await clock.pass(1);
  expect(notesOf(one)).toEqual([1, 2, 3]);
  say();
  expect(notesOf(one)).toEqual([1, 2, 3]);
  await clock.pass(windowMs);
  expect(notesOf(one)).toEqual([1, 2, 3, 4]);
  // Nothing has followed: the topic is quiet again, and nothing is kept of it.
  await clock.pass(windowMs);
  expect(clock.waiting()).toBe(0);
  say();
  expect(notesOf(one)).toEqual([1, 2, 3, 4, 5]);
});

test("[WIRE1] where few are subscribed, or the window is 0, nothing waits", () => {
  for (const { clock, sockets, say } of [buildBroadcaster({ windowMs, users: 1 }), buildBroadcaster({ windowMs: 0 })]) {
    for (let nth = 0; nth < 3; nth++) say();
    expect(notesOf(sockets[0]!)).toEqual([1, 2, 3]);
    expect(clock.waiting()).toBe(0);
  }
});

test("[WIRE1] a user's own topics do not wait, for each socket may hear them by another native topic", () => {
  const { sockets, broadcaster } = buildBroadcaster({ windowMs });
  const [anna, ben] = sockets as [NativeSocket, NativeSocket];
  // Backends may be many of one user.
  for (const { connection } of [anna, ben]) {
    connection.userId = "u";
    connection.subscribe("user:u");
  }
  broadcaster.toTopic("user:u", { type: noteType, payload: { nth: 1 } });
  broadcaster.toTopic("user:u", { type: noteType, payload: { nth: 2 } });
  for (const own of ["calls:u", "notifications:u"]) anna.connection.subscribe(own);
  expect([notesOf(anna), notesOf(ben)]).toEqual([
    [1, 2],
    [1, 2],
  ]);
});

test("[WIRE1] what waits is bounded: as much as the platform writes at once goes out before the window ends", () => {
  const { sockets, broadcaster, say } = buildBroadcaster({ windowMs });
  for (let nth = 0; nth < 33; nth++) say();
  expect(notesOf(sockets[0]!)).toHaveLength(33);
  say();
  expect(notesOf(sockets[0]!)).toHaveLength(33);
  broadcaster.toTopic("typing:c1", { type: noteType, payload: { text: "x".repeat(16 * 1024) } });
  expect(sockets[0]!.frames).toHaveLength(35);
});

test("[WIRE1] [SUB6] whoever is left out of an event that waits is left out of it alone", async () => {
  const { clock, sockets, say } = buildBroadcaster({ windowMs });
  const [anna, ben] = sockets as [NativeSocket, NativeSocket];
  say();
  say("typing:c1", { except: anna.connection });
  say("typing:c1", { except: ben.connection });
  say();
  await clock.pass(windowMs);
  expect([notesOf(anna), notesOf(ben)]).toEqual([
    [1, 3, 4],
    [1, 2, 4],
  ]);
  expect(anna.connection.isSubscribed("typing:c1")).toBe(true);
});

test("[WIRE1] [ENV3] an answer does not wait, and what was said before it stands before it", async () => {
  const { clock, sockets, say } = buildBroadcaster({ windowMs });
  const [anna, ben] = sockets as [NativeSocket, NativeSocket];
  say();
  say();
  anna.connection.sendMessage({ id: "r1", type: "ack", payload: '{"nth":"ack"}', at: 0, replyTo: "1" });
  expect([notesOf(anna), notesOf(ben)]).toEqual([[1, 2, "ack"], [1]]);
  await clock.pass(windowMs);
  expect([notesOf(anna), notesOf(ben)]).toEqual([
    [1, 2, "ack"],
    [1, 2],
  ]);
});

test("[WIRE1] [SUB3] whoever leaves has had what was said before, and whoever joins has none of it", async () => {
  const { clock, sockets, say } = buildBroadcaster({ windowMs });
  const [anna, ben, cleo] = sockets as [NativeSocket, NativeSocket, NativeSocket];
  cleo.connection.unsubscribe("typing:c1");
  say();
  say();
  anna.connection.unsubscribe("typing:c1");
  ben.connection.close(4011, "blocked");
  cleo.connection.subscribe("typing:c1");
  expect([notesOf(anna), notesOf(ben), notesOf(cleo)]).toEqual([[1, 2], [1, 2], []]);
  say();
  await clock.pass(windowMs);
  expect([notesOf(anna), notesOf(ben), notesOf(cleo)]).toEqual([[1, 2], [1, 2], [3]]);
});

const person = fc.nat(3);
const topic = fc.constantFrom(...topics);
const act = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("say" as const), topic, except: fc.option(person) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("answer" as const), to: person }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("join" as const), to: person, topic }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("leave" as const), to: person, topic }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("device" as const), to: person }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("close" as const), to: person }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.nat(25) }) },
);
type Act = typeof act extends fc.Arbitrary<infer Kind> ? Kind : never;

async function play(acts: Act[], windowMs: number) {
  const { clock, sockets, broadcaster, sayOf } = buildBroadcaster({ windowMs });
  let answers = 0;
  for (const one of acts) {
    const connection = "to" in one ? sockets[one.to]!.connection : null;
    if (one.do === "say") sayOf(one.topic, one.except === null ? {} : { except: sockets[one.except]!.connection });
    else if (one.do === "answer")
      connection!.sendMessage({ id: "a", type: "pong", payload: `{"nth":"answer#${++answers}"}`, at: 0 });
    else if (one.do === "join") connection!.subscribe(one.topic);
    else if (one.do === "leave") connection!.unsubscribe(one.topic);
    else if (one.do === "device")
      broadcaster.toUser(connection!.userId, { type: noteType, payload: { nth: "user#" } }, { onlyDevice: "phone" });
    else if (one.do === "close") connection!.close(4011, "blocked");
    else await clock.pass(one.ms);
  }
  await clock.pass(1_000);
  return sockets.map((socket) => betweenAnswers(notesOf(socket)));
}

/** Groups what came between two answers, by topic: events of different topics may pass each other, nothing else. */
function betweenAnswers(notes: string[]): Record<string, string[]>[] {
  const stretches: Record<string, string[]>[] = [{}];
  for (const note of notes) {
    const [name] = note.split("#") as [string];
    if (name === "answer") stretches.push({ [name]: [note] }, {});
    else (stretches.at(-1)![name] ??= []).push(note);
  }
  return stretches;
}

test("[WIRE1] [LOG3] whatever happens, each connection gets the same as without a window, and each topic in the same order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
      expect(await play(acts, windowMs)).toEqual(await play(acts, 0));
    }),
    { numRuns: 2_000 },
  );
});
