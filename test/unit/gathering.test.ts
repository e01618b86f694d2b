/** Proves that many questions become one, each with its own answer, and that what comes while answers are on their way waits for them. */
import { expect, test } from "bun:test";
import { Gathering } from "../../src/ground/gathering.ts";
import type { EventLog, LoggedEvent, ReplayPage } from "../../src/storage/ports.ts";
import { GatheredReplays } from "../../src/subscription/gathered-replays.ts";

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A gathering whose answers come when the test says so. */
function start(options: Partial<{ atOnceMax: number; underWayMax: number }> = {}) {
  const asked: number[][] = [];
  const answers: ((error?: Error) => void)[] = [];
  const gathering = new Gathering<number, string>({
    ask(questions) {
      asked.push(questions);
      return new Promise((resolve, reject) => {
        answers.push((error) => (error ? reject(error) : resolve(questions.map((question) => `answer ${question}`))));
      });
    },
    atOnceMax: 3,
    underWayMax: 1,
    ...options,
  });
  return { gathering, asked, answers };
}

test("what is asked in one turn is asked at once, and what comes meanwhile afterwards, as much as may be", async () => {
  const { gathering, asked, answers } = start();
  const first = [1, 2].map((question) => gathering.ask(question));
  await nextTurn();
  const later = [3, 4, 5, 6].map((question) => gathering.ask(question));
  await nextTurn();
  expect(asked).toEqual([[1, 2]]);
  answers[0]!();
  expect(await Promise.all(first)).toEqual(["answer 1", "answer 2"]);
  await nextTurn();
  expect(asked).toEqual([
    [1, 2],
    [3, 4, 5],
  ]);
  answers[1]!();
  await Promise.all(later.slice(0, 3));
  await nextTurn();
  answers[2]!();
  expect(await Promise.all(later)).toEqual(["answer 3", "answer 4", "answer 5", "answer 6"]);
});

test("those of another kind are asked for themselves, and a failure is of those who asked together", async () => {
  const { gathering, asked, answers } = start({ underWayMax: 2 });
  const [one, other] = [gathering.ask(1, 0), gathering.ask(2, 1)];
  await nextTurn();
  expect(asked).toEqual([[1], [2]]);
  answers[0]!(new Error("away"));
  answers[1]!();
  await expect(one).rejects.toThrow("away");
  expect(await other).toBe("answer 2");
});

const event = (topic: string, seq: number, position: number): LoggedEvent => {
  return { topic, seq, position, id: `${position}`, type: "t", payload: "{}", createdAt: 0 };
};
const events = [event("a", 1, 1), event("b", 1, 2), event("a", 2, 3), event("c", 1, 4)];

/** Replays of a log of four events, which says that there is more once it has given so many. */
function startReplays(mostEvents = 100) {
  const asked: Parameters<EventLog["replay"]>[0][] = [];
  const replays = new GatheredReplays({
    log: {
      async replay(query): Promise<ReplayPage> {
        asked.push(query);
        const found = events.filter((it) => query.topics.includes(it.topic) && it.position > query.afterPosition);
        const heads = new Map(query.topics.map((topic) => [topic, { seq: 1, position: 1, trimmedPosition: 0 }]));
        const more = found.length > mostEvents;
        return { events: found.slice(0, mostEvents), heads, watermark: 4, more };
      },
    },
  });
  return { replays, asked };
}

test("[LOG5] many who come back at once are one question, of which each has what is its own", async () => {
  const { replays, asked } = startReplays();
  const pages = await Promise.all([
    replays.replay({ topics: ["a", "b"], afterPosition: 1, limit: 1 }),
    replays.replay({ topics: ["b", "a"], afterPosition: 0, limit: 10 }),
    replays.replay({ topics: ["c"], afterPosition: 1, limit: 10 }),
  ]);
  expect(asked.map(({ topics, afterPosition }) => [topics, afterPosition])).toEqual([
    [["a", "b", "c"], 1],
    [["b", "a"], 0],
  ]);
  expect(pages.map((page) => page.events.map(({ position }) => position))).toEqual([[2], [1, 2, 3], [4]]);
  expect(pages.map(({ more, heads }) => [more, [...heads.keys()]])).toEqual([
    [true, ["a", "b"]],
    [false, ["b", "a"]],
    [false, ["c"]],
  ]);
});

test("[LOG5] where all together is too much each asks for itself", async () => {
  const { replays, asked } = startReplays(2);
  const pages = await Promise.all(
    ["a", "b"].map((topic) => replays.replay({ topics: [topic], afterPosition: 0, limit: 10 })),
  );
  expect(asked.map(({ topics }) => topics)).toEqual([["a", "b"], ["a"], ["b"]]);
  expect(pages.map((page) => page.events.map(({ position }) => position))).toEqual([[1, 3], [2]]);
});
