/** Typing as the tracker keeps it: what other nodes say, whatever their clocks, and what each connection has going. */
import { beforeEach, expect, test } from "bun:test";
import { TypingTracker, type Typist } from "../../src/presence/typing.ts";

const settings = { timeout: 10_000, relay_interval: 3_000 };
let time: number;
let told: string[];
let followed: string[];
let tracker: TypingTracker;
beforeEach(() => {
  time = Date.UTC(2026, 0, 2, 3, 4, 5);
  told = [];
  followed = [];
  const note = (how: string) => (topic: string, event: { type: string; payload: object }) => {
    const { user_id } = event.payload as { user_id: string };
    told.push(`${how} ${topic} ${event.type.replace("typing.", "")} ${user_id}`);
  };
  tracker = new TypingTracker({
    publish: (topic, event, { except }) => note(except === undefined ? "everybody" : "all")(topic, event),
    publishHere: note("here"),
    follow: (topic) => void followed.push(topic),
    settings,
    now: () => time,
  });
});

const typist = (userId: string, connectionId = `${userId}/1`): Typist => ({
  connectionId,
  userId,
  deviceId: connectionId,
  format: "json",
  sendMessage() {},
  sendFrames() {},
  isSubscribed: () => true,
  stepOut: () => false,
  stepBack() {},
});

/** A start as another node says it whose clock is `aheadMs` before this one's. */
const started = (userId: string, { aheadMs = 0, lastsMs = 10_000, topic = "typing:c1", conversation = "c1" } = {}) => ({
  topic,
  type: "typing.start",
  at: time + aheadMs,
  payload: JSON.stringify({
    user_id: userId,
    conversation_id: conversation,
    expires_at: new Date(time + aheadMs + lastsMs).toISOString(),
  }),
});
const typing = (conversation = "c1") => tracker.snapshot(conversation, "").map(({ user_id }) => user_id);

test.each([-3_600_000, 0, 3_600_000])(
  "[TYP2] who types on a node whose clock differs by %p ms is seen typing as long as anybody else",
  (aheadMs) => {
    tracker.heard(started("ann", { aheadMs }));
    time += 10_000;
    tracker.sweep();
    expect([typing(), told]).toEqual([["ann"], []]);
    time += 1_000;
    tracker.sweep();
    expect([typing(), told]).toEqual([[], ["here typing:c1 stop ann"]]);
  },
);

test("[TYP1] [TYP2] a start that is renewed is passed on at most every relay interval, and lasts from the last one", () => {
  const ann = typist("ann");
  for (let seconds = 0; seconds < 7; seconds++) {
    tracker.startTyping(ann, "c1");
    time += 1_000;
  }
  // At 0, 3 and 6 s.
  const starts = Array(3).fill("all typing:c1 start ann");
  expect(told).toEqual(starts);
  time += 8_999;
  tracker.sweep();
  expect(told).toEqual(starts);
  time += 1;
  tracker.sweep();
  expect([typing(), told.slice(3)]).toEqual([[], ["all typing:c1 stop ann"]]);
});

test("[TYP2] what a backend publishes keeps nobody typing for longer than the server does", () => {
  tracker.heard(started("ann", { lastsMs: 3_600_000 }));
  tracker.heard({
    type: "dictation",
    payload: '{"user_id":"eve","conversation_id":"c1"}',
    at: time,
  });
  expect(typing()).toEqual(["ann"]);
  time += 11_000;
  tracker.sweep();
  expect(tracker.stats()).toEqual({ typing: 0 });
});

test("[TYP2] a device that heard another of its user start is told of the end, for the other's own may be lost", () => {
  const laptop = typist("ann", "laptop");
  tracker.startTyping(laptop, "c1");
  tracker.heard(started("ann"));
  tracker.stopTyping(laptop, "c1");
  tracker.startTyping(laptop, "c1");
  tracker.stopTyping(laptop, "c1");
  expect(told).toEqual([
    "all typing:c1 start ann",
    "everybody typing:c1 stop ann",
    "all typing:c1 start ann",
    "all typing:c1 stop ann",
  ]);
});

test("[TYP2] a connection that goes ends all that it has going, and nothing of others", () => {
  const [phone, laptop, ben] = [typist("ann", "phone"), typist("ann", "laptop"), typist("ben")];
  for (const conversation of ["c1", "c2", "c3"]) tracker.startTyping(phone, conversation);
  tracker.startTyping(laptop, "c2");
  tracker.startTyping(ben, "c1");
  tracker.heard(started("eve"));
  told = [];
  tracker.stopAll(phone, ["c1", "c2"]);
  expect(told).toEqual(["all typing:c1 stop ann"]);
  tracker.stopAll(phone);
  tracker.stopAll(phone);
  expect(told).toEqual(["all typing:c1 stop ann", "all typing:c3 stop ann"]);
  expect([typing("c1"), typing("c2"), typing("c3")]).toEqual([["ben", "eve"], ["ann"], []]);
  tracker.stopAll(laptop);
  tracker.stopAll(ben);
  expect(tracker.stats()).toEqual({ typing: 1 });
});

test("[TYP2] [PUB1] a message ends its author's typing in its conversation, and what it needs to hear is followed until then", () => {
  const [ann, ben] = [typist("ann"), typist("ben")];
  tracker.startTyping(ann, "c1");
  tracker.startTyping(ann, "c2");
  tracker.startTyping(ben, "c1");
  expect(followed).toEqual(["conversation:c1", "conversation:c2", "conversation:c1"]);
  const message = { topic: "conversation:c1", type: "message.new", payload: '{"sender_id":"ann"}' };
  for (const other of [{ topic: "user:ann" }, { type: "app.message" }, { payload: '{"sender_id":"cleo"}' }])
    tracker.noteMessage({ ...message, ...other });
  expect(typing()).toEqual(["ann", "ben"]);
  tracker.noteMessage(message);
  tracker.noteMessage(message);
  expect([typing("c1"), typing("c2"), told.slice(3)]).toEqual([["ben"], ["ann"], ["all typing:c1 stop ann"]]);
  expect(["conversation:c1", "conversation:c2", "typing:c1"].map((topic) => tracker.follows(topic))).toEqual([
    true,
    true,
    false,
  ]);
  tracker.stopAll(ann);
  expect(tracker.follows("conversation:c2")).toBe(false);
});
