/**
 * Memory of a connection that shows a token and has one room, beside others: what the second half of many adds to the first, once all
 * are quiet; with `--settle 0` the moment all have come, with what is not collected yet.
 */
import { count, time } from "./support/command-line.ts";
import { come, compare, type Measured, parameters } from "./support/comparison.ts";
import { type Contender, others } from "./support/contenders.ts";

const { clients, settle } = parameters({
  clients: count(10_000, { least: 2 }),
  settle: time("seconds", 6, { least: 0 }),
});

await compare({
  name: settle === 0 ? "connections-at-once" : "connections",
  unit: "connection",
  gauge: { name: "memory KiB", read: (contender) => contender.memoryBytes() / 1_024 },
  contenders: [...others, "service"],
  isFresh: true,
  prepare: async (contender) => void (await connectHalf(contender)),
  measure: connectHalf,
});

/** Waits until the collector has had its time. */
async function connectHalf(contender: Contender): Promise<Measured> {
  const measured = await come(contender, { count: Math.floor(clients / 2), rooms: { each: 1, size: 10 } });
  await Bun.sleep(settle * 1_000);
  return measured;
}
