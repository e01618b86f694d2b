/** Proves how everybody is told of a log that has gone back: in slices, after the log has answered, and once for the newest loss [LOG4]. */
import { beforeEach, expect, test } from "bun:test";
import { type Epoch, Epochs } from "../../src/storage/epochs.ts";
import { LogBreakNotices, tellLogBreak } from "../../src/subscription/log-break-notices.ts";
import type { Subscriber } from "../../src/subscription/subscriber.ts";
import { type LogBreakListenerOptions, listenForLogBreaks } from "../../src/websocket/log-break-listener.ts";
import { createSubscriber } from "../support/subscriber.ts";

const epoch = (no: number, broken = false): Epoch => ({
  id: `epoch00${no}`,
  no,
  beganAt: 10 * no,
  broken,
  line: `line ${no}`,
  createdAt: no,
});

let epochs: Epochs;
let lines: [level: string, message: string][];
let told: string[];
/** Turns of the loop that others had by the time of each telling. */
let turns: number[];
beforeEach(() => {
  epochs = new Epochs();
  epochs.replace([epoch(1)]);
  [lines, told, turns] = [[], [], []];
});

function follow(connections: { name: string; topics: number }[], level: () => Promise<void> = async () => {}) {
  const all = connections.map(({ name, topics }) => ({
    name,
    isAuthenticated: true,
    isClosed: false,
    topics: () => Array.from({ length: topics }, (_, n) => `conversation:${n}`),
  }));
  let turn = 0;
  const count = () => {
    turn++;
    if (told.length < all.length) setImmediate(count);
  };
  const done = new Promise<void>((resolve) => {
    const options = {
      sequencer: { epochs, level },
      hub: { all: () => all, size: all.length },
      subscriptions: {
        logBreaks: { owe: (owed: typeof all) => expect(owed).toEqual(all) },
        async tellLogBreak({ name }: { name: string }) {
          told.push(name);
          turns.push(turn);
          if (told.length === all.length) resolve();
        },
      },
      logger: Object.fromEntries(
        ["info", "warn", "error"].map((level) => [level, (_: object, text: string) => lines.push([level, text])]),
      ),
    };
    listenForLogBreaks(options as unknown as LogBreakListenerOptions);
  });
  setImmediate(count);
  return done;
}

test("[LOG4] a loss is one line of the log, an error, and everybody is told; others get their turn in between", async () => {
  const done = follow(["anna", "ben", "cleo", "dora"].map((name) => ({ name, topics: 1_500 })));
  epochs.replace([epoch(1), epoch(2, true)]);
  await done;
  expect(told).toEqual(["anna", "ben", "cleo", "dora"]);
  expect(turns[3]! - turns[0]!).toBeGreaterThan(0);
  expect(lines.map(([level]) => level)).toEqual(["error"]);
  expect(lines[0]![1]).toStartWith("the log has gone back");
});

test("[LOG4] another epoch without a loss is a line, and nobody is told", async () => {
  void follow([{ name: "anna", topics: 1 }]);
  epochs.replace([epoch(1), epoch(2)]);
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toEqual([]);
  expect(lines.map(([level]) => level)).toEqual(["info"]);
});

test("[LOG4] nobody is told before the log has answered, and of two losses only of the newest", async () => {
  const answers: (() => void)[] = [];
  const done = follow([{ name: "anna", topics: 1 }], () => new Promise((resolve) => answers.push(resolve)));
  epochs.replace([epoch(1), epoch(2, true)]);
  epochs.replace([epoch(1), epoch(2, true), epoch(3, true)]);
  expect(told).toEqual([]);
  for (const answer of answers) answer();
  await done;
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toEqual(["anna"]);
});

test("[LOG4] whoever is on very many topics is told in several messages, of what is logged only", () => {
  const subscriber = createSubscriber("anna", {});
  for (let n = 0; n < 1_200; n++) subscriber.subscribe(`conversation:${n}`);
  for (const topic of ["typing:1", "calls:anna", "log"]) subscriber.subscribe(topic);
  const sizes: number[] = [];
  const sequencer = { cursor: epochs.cursorOf(5), headOf: () => 7 };
  tellLogBreak(subscriber, {
    sequencer,
    tell(_: Subscriber, type: string, payload: object) {
      const { topics, cursor } = payload as { topics: object[]; cursor: string };
      expect([type, cursor]).toEqual(["subscribed", epochs.cursorOf(5)]);
      expect(topics[0]).toMatchObject({ seq: 7, recovered: false });
      sizes.push(topics.length);
    },
  });
  expect(sizes).toEqual([1_000, 200]);
});

test("[LOG4] whoever is owed is told once, by its turn or before it is given a cursor, also while no head is known", () => {
  const [anna, ben] = ["anna", "ben"].map((name) => createSubscriber(name, {})) as [Subscriber, Subscriber];
  for (const subscriber of [anna, ben]) subscriber.subscribe("conversation:c1");
  const heard: [string, object][] = [];
  const sequencer = { cursor: epochs.cursorOf(5), headOf: () => undefined };
  const logBreaks = new LogBreakNotices({
    sequencer,
    tell: ({ userId }, _, payload) => void heard.push([userId, payload]),
  });
  logBreaks.tell(anna);
  logBreaks.owe([anna]);
  for (const subscriber of [anna, ben, anna]) logBreaks.tell(subscriber);
  expect(heard).toHaveLength(1);
  expect(heard[0]).toMatchObject(["anna", { topics: [{ topic: "conversation:c1", recovered: false }] }]);
});
