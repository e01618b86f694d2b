/** Proves the order that batches keep for each source, whatever the log leaves alone, and that the rest does not wait for it [ENV7]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { AppendQueue, type Group } from "../../src/broadcast/append-queue.ts";
import type { AppendResult, NewEvent } from "../../src/storage/ports.ts";
import { newEvent } from "../support/new-event.ts";

interface Call {
  events: NewEvent[];
  isPatient: boolean;
  /** Answers; topics that others hold are left alone with their units. */
  answer(held?: string[]): void;
  fail(): void;
}

function build() {
  const calls: Call[] = [];
  const done: string[] = [];
  const failed: string[] = [];
  const queue = new AppendQueue<Group>({
    log: {
      append(events, units) {
        const { promise, resolve, reject } = Promise.withResolvers<AppendResult>();
        calls.push({
          events,
          isPatient: units === undefined,
          answer(held = []) {
            const left = new Set(units?.filter((_, index) => held.includes(events[index]!.topic)));
            const appended = events.map(({ topic, id, createdAt }, index) => ({
              ...{ topic, id, createdAt, seq: 1, position: 1, duplicate: false },
              ...(units && left.has(units[index]!) ? { deferred: true as const } : {}),
            }));
            resolve({ previousPosition: 0, appended });
          },
          fail: () => reject(new Error("away")),
        });
        return promise;
      },
    },
    onTaken() {},
    onAppended: (groups, { appended }) => {
      expect(appended.map(({ id }) => id)).toEqual(groups.flatMap(({ events }) => events.map(({ id }) => id)));
      done.push(...appended.map(({ id }) => id));
    },
    onFailed: (groups) => failed.push(...groups.flatMap(({ events }) => events.map(({ id }) => id))),
  });
  const add = (source: unknown, ...topics: string[]) => {
    const events = topics.map((topic) => newEvent(topic));
    queue.add({ source, events });
    return events.map(({ id }) => id);
  };
  return { queue, calls, done, failed, add };
}

const turns = async () => {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
};

test("[ENV7] what is left alone waits apart, and nobody waits for it but its source", async () => {
  const { queue, calls, done, add } = build();
  const [hot] = add("ann", "user:hot");
  const [cold] = add("ben", "user:cold");
  await turns();
  calls[0]!.answer(["user:hot"]);
  await turns();
  expect(done).toEqual([cold!]);
  expect(calls[1]).toMatchObject({ isPatient: true, events: [{ id: hot }] });
  const [after] = add("ann", "user:cold");
  const [other] = add("ben", "user:cold");
  await turns();
  expect(calls[2]!.events.map(({ id }) => id)).toEqual([other!]);
  calls[2]!.answer();
  await turns();
  expect(done).toEqual([cold!, other!]);
  calls[1]!.answer();
  await turns();
  calls[3]!.answer();
  await queue.drained();
  expect(done).toEqual([cold!, other!, hot!, after!]);
});

test("[ENV7] what was left alone is tried again with what comes new, its source whole and in order", async () => {
  const { queue, calls, done, add } = build();
  // The first to be left alone is waited for; the second is not.
  const [first] = add("ann", "user:hot");
  const [second] = add("ben", "user:warm");
  await turns();
  calls[0]!.answer(["user:hot", "user:warm"]);
  await turns();
  expect(calls[1]!.events.map(({ id }) => id)).toEqual([first!]);
  const [third] = add("ben", "user:cold");
  await turns();
  expect(calls[2]!.events.map(({ id }) => id)).toEqual([second!, third!]);
  calls[2]!.answer();
  calls[1]!.answer();
  await queue.drained();
  expect(done).toEqual([second!, third!, first!]);
});

test("[ENV7] whatever the log leaves alone or fails, each source's events end in their order, each once", async () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ source: fc.nat(3), topics: fc.array(fc.nat(4), { minLength: 1, maxLength: 3 }) }),
    },
    { weight: 2, arbitrary: fc.record({ call: fc.nat(1), held: fc.subarray([0, 1, 2, 3, 4]) }) },
    { weight: 1, arbitrary: fc.record({ failing: fc.nat(1) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const { queue, calls, done, failed, add } = build();
      const given = new Map<number, string[]>();
      let answered: Call[] = [];
      const open = () => calls.filter((call) => !answered.includes(call));
      for (const each of steps) {
        if ("source" in each) {
          const ids = add(each.source, ...each.topics.map((topic) => `user:${topic}`));
          given.set(each.source, [...(given.get(each.source) ?? []), ...ids]);
        } else {
          const call = open()["call" in each ? each.call : each.failing];
          if (call === undefined) continue;
          answered = [...answered, call];
          if ("failing" in each) call.fail();
          else call.answer(each.held.map((topic) => `user:${topic}`));
        }
        await turns();
        expect(open().filter(({ isPatient }) => isPatient).length).toBeLessThanOrEqual(1);
        expect(open().filter(({ isPatient }) => !isPatient).length).toBeLessThanOrEqual(1);
      }
      let isDrained = false;
      void queue.drained().then(() => {
        isDrained = true;
      });
      while (!isDrained) {
        for (const call of open()) call.answer();
        answered = [...calls];
        await turns();
      }
      const ended = [...done, ...failed];
      expect(ended.toSorted()).toEqual([...given.values()].flat().toSorted());
      for (const ids of given.values())
        expect(done.filter((id) => ids.includes(id))).toEqual(ids.filter((id) => done.includes(id)));
      expect(queue.waiting).toBe(0);
    }),
    { numRuns: 200 },
  );
});
