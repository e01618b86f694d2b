/** Small reads on SQLite: in the loop's own thread beside the way to the worker, on a quiet file and while events are appended. */
import { join } from "node:path";
import { SmallReads } from "../src/storage/sqlite/small-reads.ts";
import { WorkerCalls } from "../src/storage/sqlite/worker-calls.ts";
import { newEvents } from "../test/support/new-event.ts";
import { readOptions } from "./support/command-line.ts";
import { present } from "./support/measured.ts";
import { quantile } from "./support/statistics.ts";
import { temporaryFolder } from "./support/temporary.ts";

readOptions({});

const topics = 2_000;
const eventsEach = 50;
const reads = 1_000;
/** Asked in one turn of the loop, as by clients that come back at the same moment. */
const atOnce = 256;

const folder = temporaryFolder("ws-small-reads");
const path = join(folder, "bench.db");
const worker = new WorkerCalls({
  engine: { path, durability: "process", busyTimeoutMs: 2_000 },
  spawn: () => new Worker(new URL("../src/storage/sqlite/worker.ts", import.meta.url).href),
  callsMax: 65_536,
  callTimeoutMs: 60_000,
});
const small = new SmallReads({ path, turnMsMax: Number.POSITIVE_INFINITY });

const any = (count: number) => Math.floor(Math.random() * count);
const topic = () => `conversation:c${any(topics)}`;
const some = (count: number) => Array.from({ length: count }, () => `c${any(topics)}`);
const user = () => `user-${any(100)}`;

type Question = Parameters<typeof small.answer>;
const questions: [name: string, ask: () => Question][] = [
  ["head of 1 topic", () => ["heads", [[topic()]]]],
  ["heads of 20 topics", () => ["heads", [Array.from({ length: 20 }, topic)]]],
  ["state of a user", () => ["userState", [user(), Date.now()]]],
  ["membership of 1", () => ["membershipsAmong", [user(), some(1)]]],
  ["membership of 20", () => ["membershipsAmong", [user(), some(20)]]],
  ["cursor of a device", () => ["acknowledged", [user(), "phone"]]],
  ["receipts of 1 conversation", () => ["receiptStates", [user(), some(1)]]],
  ["page of 1 event", () => ["page", [{ topic: topic(), limit: 1 }]]],
  ["page of 20 events", () => ["page", [{ topic: topic(), limit: 20 }]]],
];

try {
  await worker.start();
  for (let first = 0; first < topics; first += 10) {
    const names = Array.from({ length: 10 }, (_, index) => `c${first + index}`);
    await worker.call(
      "append",
      names.flatMap((name) => newEvents(`conversation:${name}`, eventsEach, { senderId: user() })),
    );
    for (const name of names) await worker.call("addMembers", name, Array.from({ length: 10 }, user));
  }
  for (let index = 0; index < 100; index++) {
    const device = { userId: `user-${index}`, deviceId: "phone" };
    await worker.call("acknowledge", [{ ...device, cursor: `00000000.${index}` }], 1);
  }
  small.start();
  present("small-reads", [...(await measure("quiet")), ...(await measure("appends"))]);
} finally {
  small.stop();
  await worker.stop();
}

async function measure(load: "quiet" | "appends"): Promise<Record<string, string | number>[]> {
  let goesOn = load === "appends";
  const appending = (async () => {
    while (goesOn) await worker.call("append", newEvents(topic(), 20));
  })();
  const rows: Record<string, string | number>[] = [];
  for (const [question, ask] of questions) {
    const here = await timed(async () => void small.answer(...ask()));
    const there = await timed(() => callWorker(ask()));
    const turn = (work: () => unknown) => measureOnce(work);
    const hereAtOnce = await turn(() => Array.from({ length: atOnce }, () => small.answer(...ask())));
    const thereAtOnce = await turn(() => Promise.all(Array.from({ length: atOnce }, () => callWorker(ask()))));
    rows.push({
      load,
      question,
      "loop p50 µs": Math.round(here.p50),
      "p99 µs": Math.round(here.p99),
      "worker p50 µs": Math.round(there.p50),
      " p99 µs": Math.round(there.p99),
      "times faster": (there.p50 / here.p50).toFixed(1),
      [`${atOnce} at once, loop ms`]: hereAtOnce.toFixed(1),
      "worker ms": thereAtOnce.toFixed(1),
    });
  }
  goesOn = false;
  await appending;
  return rows;
}

function callWorker([operation, values]: Question): Promise<unknown> {
  return (worker.call as (operation: string, ...values: unknown[]) => Promise<unknown>)(operation, ...values);
}

async function timed(work: () => Promise<unknown>): Promise<{ p50: number; p99: number }> {
  const times: number[] = [];
  for (let read = 0; read < reads; read++) {
    times.push((await measureOnce(work)) * 1_000);
    // Lets what comes in between come in between.
    if (read % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

async function measureOnce(work: () => unknown): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}
