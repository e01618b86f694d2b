/** One user's questions to the storage: few at once, in order, bounded, and dropped with their connection. */
import { expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { AskerGone, FairQueue } from "../../src/storage/fair-queue.ts";

/** An engine that takes one question after the other, in the order in which they come, when it is told to go on. */
function slowEngine() {
  const taken: { name: string; answer: () => void }[] = [];
  const order: string[] = [];
  return {
    order,
    question: (name: string) => () =>
      new Promise<string>((resolve) => {
        order.push(name);
        taken.push({ name, answer: () => resolve(name) });
      }),
    /** Answers the oldest question, once there is one. */
    async goOn() {
      while (taken.length === 0) await new Promise((resolve) => setImmediate(resolve));
      taken.shift()!.answer();
    },
  };
}

const asker = (userId: string) => ({ userId, isClosed: false });

test("[LIM] one user has few questions before the storage at once, and somebody else's next one stands behind no more", async () => {
  const queue = new FairQueue({ perUser: 2 });
  const engine = slowEngine();
  const devices = Array.from({ length: 10 }, () => asker("eve"));
  const asked = devices.map((device, index) => queue.ask(device, engine.question(`eve ${index}`)));
  const ann = queue.ask(asker("ann"), engine.question("ann"));
  expect(engine.order).toEqual(["eve 0", "eve 1", "ann"]);
  for (let step = 0; step < 11; step++) await engine.goOn();
  expect(await ann).toBe("ann");
  expect(await Promise.all(asked)).toEqual(devices.map((_, index) => `eve ${index}`));
  // In the order in which they were asked, and nothing is remembered of who asks nothing.
  expect(engine.order.filter((name) => name !== "ann")).toEqual(devices.map((_, index) => `eve ${index}`));
  expect(queue.size).toBe(0);
});

test("[SUB1] what waits for a connection that has gone is not asked, and the others' turn comes", async () => {
  const queue = new FairQueue({ perUser: 1 });
  const engine = slowEngine();
  const gone = asker("eve");
  const first = queue.ask(asker("eve"), engine.question("first"));
  const dropped = queue.ask(gone, engine.question("dropped")).catch((error: unknown) => error);
  const last = queue.ask(asker("eve"), engine.question("last"));
  gone.isClosed = true;
  await engine.goOn();
  expect(await dropped).toBeInstanceOf(AskerGone);
  // Or a client that goes would be told of as an outage of the storage.
  expect(await dropped).not.toBeInstanceOf(Unavailable);
  await engine.goOn();
  expect(await Promise.all([first, last])).toEqual(["first", "last"]);
  expect(engine.order).toEqual(["first", "last"]);
  expect(queue.size).toBe(0);
});

test("[LIM] a question that fails gives its place on", async () => {
  const queue = new FairQueue({ perUser: 1 });
  const failing = queue.ask(asker("eve"), () => Promise.reject(new Error("no")));
  const next = queue.ask(asker("eve"), async () => "answer");
  await expect(failing).rejects.toThrow("no");
  expect(await next).toBe("answer");
  expect(queue.size).toBe(0);
});

test("[LIM] more than may wait is refused at once", async () => {
  const queue = new FairQueue({ perUser: 1 });
  const engine = slowEngine();
  const waiting = Array.from({ length: 1_025 }, (_, index) => queue.ask(asker("eve"), engine.question(`${index}`)));
  await expect(queue.ask(asker("eve"), engine.question("too many"))).rejects.toBeInstanceOf(Unavailable);
  expect(await queue.ask(asker("ann"), async () => "ann")).toBe("ann");
  for (let step = 0; step < 1_025; step++) await engine.goOn();
  expect(await Promise.all(waiting)).toHaveLength(1_025);
  expect(engine.order).not.toContain("too many");
});
