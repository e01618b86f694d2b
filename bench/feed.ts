/** The feed of the whole log: how fast one backend catches up over one socket, and what that does to those who send meanwhile. */
import { startPostgres } from "../test/support/postgres.ts";
import { readOptions } from "./support/command-line.ts";
import type { Fed } from "./support/feed-reader.ts";
import { present, startMeasured, startProgram } from "./support/measured.ts";
import type { Missed } from "./support/missed.ts";
import type { Round, Sent } from "./support/senders.ts";
import { median } from "./support/statistics.ts";

readOptions({});

const missed: Missed = { clients: 10_000, groupSize: 10, topicsEach: 3, eventsEach: 100 };
const events = 2 * (missed.clients / missed.groupSize) * missed.eventsEach;
/** Events a second of one that catches up. */
const aim = 50_000;
/** Alone it shows what a message waits for; more of them fill the processor as well. */
const loads = [1, 20];
const rounds = 5;

const postgres = await startPostgres();
try {
  const url = await postgres.newDatabase();
  present("feed", [...(await measure("SQLite", {})), ...(await measure("PostgreSQL", { WS__STORAGE__URL: url }))]);
} finally {
  await postgres.stop();
}

async function measure(engine: string, settings: Record<string, string>): Promise<Record<string, string | number>[]> {
  const service = await startMeasured("service.ts", { ...settings, MISSED: JSON.stringify(missed) });
  const reader = startProgram(["feed-reader.ts", JSON.stringify({ port: service.port, events })]);
  const sender = startProgram(["senders.ts", JSON.stringify({ port: service.port, connections: Math.max(...loads) })]);
  await Promise.all([reader.next(), sender.next()]);
  const ask = <Answer>({ child, next }: typeof reader, line: unknown) => {
    child.stdin.write(`${JSON.stringify(line)}\n`);
    child.stdin.flush();
    return next() as Promise<Answer>;
  };
  const send = (senders: number, forMs = 1_500) => ask<Sent>(sender, { senders, forMs } satisfies Round);
  const feed = async () => {
    const before = await service.report("cpu");
    const fed = await ask<Fed>(reader, "come");
    const after = await service.report("cpu");
    return { ...fed, serviceCpu: after.cpuSeconds - before.cpuSeconds };
  };
  // Everybody once: plans are known, code is compiled.
  await send(Math.max(...loads), 500);
  await feed();
  const alone: Awaited<ReturnType<typeof feed>>[] = [];
  const sent = loads.map(() => ({ quiet: [] as Sent[], beside: [] as Sent[], fed: [] as Fed[] }));
  for (let round = 0; round < rounds; round++) {
    alone.push(await feed());
    for (const [index, senders] of loads.entries()) {
      const { quiet, beside, fed } = sent[index]!;
      quiet.push(await send(senders));
      const feeding = feed();
      beside.push(await send(senders));
      fed.push(await feeding);
    }
  }
  for (const { child } of [reader, sender]) child.kill();
  await Promise.all([reader.child.exited, sender.child.exited, service.stop()]);
  const typical = <One>(all: One[], value: (one: One) => number) => median(all.map(value));
  const perSecond = (fed: Fed) => (fed.events * 1_000) / fed.tookMs;
  const rate = typical(alone, perSecond);
  const row = (what: string, sent: Sent[], rest: Record<string, number> = {}) => ({
    engine,
    what,
    "acked/s": Math.round(typical(sent, (it) => (it.acked * 1_000) / it.tookMs)),
    "p50 ms": typical(sent, (it) => it.p50Ms).toFixed(2),
    "p99 ms": typical(sent, (it) => it.p99Ms).toFixed(1),
    ...rest,
  });
  return [
    {
      engine,
      what: "one catches up",
      "events/s": Math.round(rate),
      "most events/s": Math.round(Math.max(...alone.map(perSecond))),
      [`${aim}`]: rate >= aim ? "yes" : "no",
      "service CPU µs/event": typical(alone, (it) => (it.serviceCpu * 1e6) / it.events).toFixed(1),
      "client CPU µs/event": typical(alone, (it) => (it.cpuSeconds * 1e6) / it.events).toFixed(1),
      "bytes/event": Math.round(typical(alone, (it) => it.bytes / it.events)),
    },
    ...sent.flatMap(({ quiet, beside, fed }, index) => [
      row(`senders: ${loads[index]}`, quiet),
      row(`senders: ${loads[index]}, while it does`, beside, { "events/s": Math.round(typical(fed, perSecond)) }),
    ]),
  ];
}
