/** Fan-out: CPU of the server for each delivery to the subscribers of one room, one message at a time or some at once; at a higher rate also written together. */
import { count, time } from "./support/command-line.ts";
import { compare, parameters, published } from "./support/comparison.ts";
import { type KindName, others } from "./support/contenders.ts";
import type { Published } from "./support/load.ts";

const usualRate = 20;
const {
  subscribers,
  rate,
  "at-once": atOnce,
  seconds,
} = parameters({
  subscribers: count(1_000),
  rate: count(usualRate, { says: "Messages a second." }),
  "at-once": count(1),
  seconds: time("seconds", 3),
});
const messages = Math.max(20, Math.round(rate * seconds));
const isHot = rate > usualRate;
// Centrifugo cuts its clients off at 100 a second, on two cores that it shares with them; others were not tried.
const beside: KindName[] = isHot ? ["bare", "service, 25 ms", "service, 50 ms"] : [...others, "service, not logged"];

await compare({
  name: `fanout${isHot ? "-hot" : ""}${atOnce === 1 ? "" : "-at-once"}`,
  unit: "delivery",
  contenders: [...beside, "service"],
  async prepare(contender) {
    const rooms = { each: 1, size: subscribers };
    await contender.load({ do: "connect", as: "subscriber", count: subscribers, rooms });
    await contender.connectPublishers(10);
  },
  async measure(contender) {
    const { mode } = contender;
    const pace = { perSecond: rate, atOnce };
    const told = await contender.load<Published>({ do: "publish", mode, rooms: 1, count: messages, pace });
    return { units: told.delivered, ...published(told) };
  },
});
