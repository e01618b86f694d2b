/** Coming back: many clients that each missed events return at once, beside a bare `Bun.serve` that sends frames of the same sizes. */
import { startPostgres } from "../test/support/postgres.ts";
import { readOptions } from "./support/command-line.ts";
import { present, startMeasured, startProgram } from "./support/measured.ts";
import type { Missed } from "./support/missed.ts";
import type { Returned } from "./support/returners.ts";
import { median } from "./support/statistics.ts";

readOptions({});

const missed: Missed = { clients: 5_000, groupSize: 10, topicsEach: 3, eventsEach: 20 };
const rounds = 3;

const postgres = await startPostgres();
try {
  present("resume", [
    ...(await measure("PostgreSQL", async () => ({ WS__STORAGE__URL: await postgres.newDatabase() }))),
    ...(await measure("SQLite", async () => ({}))),
  ]);
} finally {
  await postgres.stop();
}

async function measure(name: string, settings: () => Promise<Record<string, string>>) {
  const measured: { service: Result; bare: Result }[] = [];
  // In turns, and each time with a server that has never seen these clients: nothing is remembered of them.
  for (let round = 0; round < rounds; round++) {
    const service = await comeBack("service", { ...(await settings()), MISSED: JSON.stringify(missed) });
    const bare = await comeBack("bare", { ANSWER_BYTES: JSON.stringify(service.frameBytes) });
    measured.push({ service, bare });
  }
  const ratios = measured.map(({ service, bare }) => service.tookMs / bare.tookMs);
  return (["service", "bare"] as const).map((which) => {
    const typical = (value: (one: Result) => number) => median(measured.map((one) => value(one[which])));
    return {
      server: which === "bare" ? "bare" : name,
      clients: missed.clients,
      events: missed.clients * missed.eventsEach,
      "all level after ms": Math.round(typical(({ tookMs }) => tookMs)),
      "events/s": Math.round(typical(({ events, tookMs }) => (events * 1_000) / tookMs)),
      "a client p50 ms": Math.round(typical(({ p50Ms }) => p50Ms)),
      "a client p99 ms": Math.round(typical(({ p99Ms }) => p99Ms)),
      "loop lag p99 ms": Math.round(typical(({ lag }) => lag.p99)),
      "loop lag most ms": Math.round(typical(({ lag }) => lag.most)),
      "server CPU µs/client": Math.round(typical(({ serverCpu }) => (serverCpu * 1e6) / missed.clients)),
      "clients' CPU µs/client": Math.round(typical(({ cpuSeconds }) => (cpuSeconds * 1e6) / missed.clients)),
      "times bare": which === "bare" ? "" : median(ratios).toFixed(2),
      "least–most": which === "bare" ? "" : `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`,
    };
  });
}

type Result = Returned & { lag: { p99: number; most: number }; serverCpu: number };

async function comeBack(kind: "service" | "bare", env: Record<string, string>): Promise<Result> {
  const server = await startMeasured(kind === "bare" ? "bare.ts" : "service.ts", env);
  const job = { kind, port: server.port, cursor: server.known.cursor ?? "", missed };
  const clients = startProgram(["returners.ts", JSON.stringify(job)]);
  await clients.next();
  const before = await server.report("lag");
  clients.child.stdin.write("come\n");
  clients.child.stdin.flush();
  const returned = (await clients.next()) as Returned;
  const after = await server.report("lag");
  clients.child.kill();
  await Promise.all([clients.child.exited, server.stop()]);
  return { ...returned, lag: after.lag!, serverCpu: after.cpuSeconds - before.cpuSeconds };
}
