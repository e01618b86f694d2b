/** The supervisor's patience: how long it waits before a worker is started again, and for one that does not end. */
import { expect, test } from "bun:test";
import pino from "pino";
import { Supervisor, type WorkerStart } from "../../src/commands/supervisor.ts";
import type { FromSupervisor } from "../../src/commands/worker-link.ts";
import { createCallsUnderWay } from "../support/calls-under-way.ts";
import { createHandClock } from "../support/hand-clock.ts";

interface Started extends WorkerStart {
  /** Told to it, in order: orders and signals. */
  told: string[];
}

function wordOf(message: FromSupervisor): string {
  switch (message.kind) {
    case "order":
      return message.order;
    case "question":
      return "question";
    case "answer":
      return message.ready ? "all are ready" : "not all are ready";
  }
}

function createScene({ count = 2, drainPatienceMs = 40_000 } = {}) {
  const clock = createHandClock({ settled: createCallsUnderWay().settled });
  const started: Started[] = [];
  const system = { canSpawn: true };
  const ups: number[] = [];
  const supervisor = new Supervisor({
    count,
    spawn(start) {
      if (!system.canSpawn) throw new Error("EAGAIN");
      const told: string[] = [];
      started.push({ ...start, told });
      return {
        pid: 1_000 + started.length,
        send: (message: FromSupervisor) => void told.push(wordOf(message)),
        kill: (signal) => void told.push(signal),
      };
    },
    drainPatienceMs,
    onAllUp: (port) => void ups.push(port),
    logger: pino({ level: "silent" }),
    now: clock.now,
    // No delay is shortened.
    random: () => 1,
    after: clock.after,
  });
  let code: number | null = null;
  void supervisor.run().then((it) => (code = it));
  const last = (workerNumber: number) => started.findLast((it) => it.workerNumber === workerNumber)!;
  return {
    clock,
    supervisor,
    system,
    started,
    last,
    ups,
    code: () => code,
    listen: (workerNumber: number) => last(workerNumber).onMessage({ kind: "listening", port: 8086 }),
    crash: (workerNumber: number) => last(workerNumber).onExit({ code: null, signal: "SIGKILL" }),
    end: (workerNumber: number) => last(workerNumber).onExit({ code: 0, signal: null }),
  };
}

/** Two workers that are up. */
function createPair(options?: { drainPatienceMs: number }) {
  const scene = createScene(options);
  scene.listen(1);
  scene.listen(2);
  return scene;
}

test("the others start once the first listens, on its port", () => {
  const { started, listen } = createScene({ count: 3 });
  expect(started.map(({ workerNumber, port }) => ({ workerNumber, port }))).toEqual([{ workerNumber: 1, port: null }]);
  listen(1);
  expect(started.slice(1).map(({ workerNumber, port }) => ({ workerNumber, port }))).toEqual([
    { workerNumber: 2, port: 8086 },
    { workerNumber: 3, port: 8086 },
  ]);
});

test("[OPS7] that all are up is told once, when the last of them listens", async () => {
  const { clock, ups, listen, crash } = createScene({ count: 3 });
  for (const workerNumber of [1, 2]) listen(workerNumber);
  expect(ups).toEqual([]);
  listen(3);
  expect(ups).toEqual([8086]);
  crash(2);
  await clock.pass(200);
  listen(2);
  expect(ups).toEqual([8086]);
});

test("a first worker that does not come up ends the whole with 1", async () => {
  const { clock, started, crash, code } = createScene();
  crash(1);
  await clock.pass(60_000);
  expect([started.length, code()]).toEqual([1, 1]);
});

test("one that crashes again and again waits twice as long each time, at most 30 s", async () => {
  const { clock, started, crash, listen } = createPair();
  const waits: number[] = [];
  for (let time = 0; time < 11; time++) {
    const before = started.length;
    const crashedAt = clock.now();
    crash(2);
    while (started.length === before) await clock.pass(50);
    waits.push(clock.now() - crashedAt);
    // Whether it has come up for a moment makes no difference.
    if (time % 2 === 0) listen(2);
  }
  expect(waits).toEqual([100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
});

test("one that has been up for a minute begins anew, and one that was drained is replaced at once", async () => {
  const { clock, started, crash, listen, end } = createPair();
  for (let time = 0; time < 5; time++) {
    crash(2);
    await clock.pass(30_000);
    listen(2);
  }
  await clock.pass(60_000);
  const before = started.length;
  crash(2);
  await clock.pass(100);
  expect(started.length).toBe(before + 1);
  listen(2);
  end(2);
  await clock.pass(0);
  expect(started.length).toBe(before + 2);
});

test("where the system cannot start another process just now, it is tried again, and those that run go on", async () => {
  const { clock, started, system, crash, listen, last, supervisor, code, end } = createPair();
  system.canSpawn = false;
  crash(2);
  await clock.pass(5_000);
  expect([started.length, code(), last(1).told]).toEqual([2, null, []]);
  system.canSpawn = true;
  await clock.pass(5_000);
  expect(started.length).toBe(3);
  listen(2);
  supervisor.terminate();
  end(1);
  end(2);
  await clock.pass(0);
  expect(code()).toBe(0);
});

test("one that starts while certificates and keys change reads them once it listens", async () => {
  const { clock, crash, last, listen, supervisor } = createPair();
  crash(2);
  await clock.pass(1_000);
  supervisor.reload();
  listen(2);
  expect([last(1).told, last(2).told]).toEqual([["reload"], ["reload"]]);
});

test("[DRN] all are told to drain, then to end; the last one's end is the end", async () => {
  const { clock, supervisor, last, end, code } = createPair();
  supervisor.terminate();
  expect([last(1).told, last(2).told]).toEqual([["drain"], ["drain"]]);
  end(1);
  supervisor.terminate();
  supervisor.terminate();
  expect(last(2).told).toEqual(["drain", "end"]);
  await clock.pass(0);
  expect(code()).toBeNull();
  end(2);
  await clock.pass(0);
  expect(code()).toBe(0);
});

test("[DRN] one that does not drain in time is killed, and the exit code says so", async () => {
  const { clock, supervisor, last, crash, end, code } = createPair({ drainPatienceMs: 7_000 });
  supervisor.terminate();
  end(1);
  await clock.pass(6_999);
  expect(last(2).told).toEqual(["drain"]);
  await clock.pass(1);
  expect(last(2).told).toEqual(["drain", "SIGKILL"]);
  crash(2);
  await clock.pass(0);
  expect(code()).toBe(1);
});

test("[DRN] what is starting or waits to be started again holds nobody up", async () => {
  const waiting = createPair();
  waiting.crash(2);
  waiting.supervisor.terminate();
  waiting.end(1);
  await waiting.clock.pass(60_000);
  expect([waiting.started.length, waiting.code()]).toEqual([2, 0]);

  const starting = createScene();
  starting.supervisor.terminate();
  expect(starting.last(1).told).toEqual(["SIGTERM"]);
  starting.last(1).onExit({ code: null, signal: "SIGTERM" });
  await starting.clock.pass(0);
  expect(starting.code()).toBe(0);
});

test("[END2] a worker that asks is told whether all others are ready: not one that hangs, has gone, or says no", async () => {
  const { clock, last, crash } = createPair();
  const [asking, asked] = [last(1), last(2)];
  /** Puts the worker's question; `answer` is what the other one does about it. */
  async function ask(id: number, answer: () => void): Promise<string> {
    asking.onMessage({ kind: "question", id });
    await clock.pass(0);
    answer();
    await clock.pass(700);
    return asking.told.at(-1)!;
  }
  expect(await ask(1, () => asked.onMessage({ kind: "answer", id: 1, ready: true }))).toBe("all are ready");
  expect(await ask(2, () => asked.onMessage({ kind: "answer", id: 2, ready: false }))).toBe("not all are ready");
  expect(await ask(3, () => asked.onMessage({ kind: "answer", id: 3, ready: true }))).toBe("all are ready");
  const hangs = () => {};
  expect(await ask(4, hangs)).toBe("not all are ready");
  expect(await ask(5, () => asked.onMessage({ kind: "answer", id: 5, ready: true }))).toBe("all are ready");
  expect(await ask(6, () => crash(2))).toBe("not all are ready");
  expect(asking.told).toHaveLength(6);
});
