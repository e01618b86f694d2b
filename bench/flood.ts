/** A flood: one connection publishes without waiting to a room in which nobody is. */
import { count } from "./support/command-line.ts";
import { compare, parameters } from "./support/comparison.ts";
import { others } from "./support/contenders.ts";
import type { Published } from "./support/load.ts";

const { messages, unanswered } = parameters({ messages: count(10_000), unanswered: count(50) });

await compare({
  name: "flood",
  unit: "message",
  contenders: [...others, "service, not logged", "service, published", "service"],
  prepare: (contender) => contender.connectPublishers(1),
  async measure(contender) {
    const { mode } = contender;
    const told = await contender.load<Published>({
      do: "publish",
      mode,
      rooms: 1,
      count: messages,
      pace: { unanswered },
    });
    return { units: messages, latencies: { acked: told.acked }, cpuSeconds: told.cpuSeconds };
  },
});
