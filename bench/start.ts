/** Starting beside others: from the first system call until a server answers, and its memory once it has had nothing to do for a while. */
import { time } from "./support/command-line.ts";
import { chosen, options, parameters } from "./support/comparison.ts";
import { Contender, type KindName } from "./support/contenders.ts";
import { present } from "./support/measured.ts";
import { median } from "./support/statistics.ts";

const { settle } = parameters({ settle: time("seconds", 2, { least: 0 }) }, ["rounds", "only", "program"]);
const names = chosen(["bare", "ws", "socket.io", "centrifugo", "anycable", "service"]);
const started = new Map<KindName, { readyMs: number; mebibytes: number }[]>(names.map((name) => [name, []]));

// In turns, and once before: the first one reads files from the disk.
for (let round = -1; round < options.rounds; round++) {
  for (const name of names) {
    const contender = await Contender.start(name, { program: options.program });
    await Bun.sleep(settle * 1_000);
    const mebibytes = contender.memoryBytes() / 2 ** 20;
    await contender.stop();
    if (round >= 0) started.get(name)!.push({ readyMs: contender.readyMs, mebibytes });
  }
}
const rows = [...started].map(([name, starts]) => {
  const ready = starts.map(({ readyMs }) => readyMs);
  return {
    contender: name,
    "ready after ms": median(ready).toFixed(0),
    "least–most": `${Math.min(...ready).toFixed(0)}–${Math.max(...ready).toFixed(0)}`,
    "memory MiB": median(starts.map(({ mebibytes }) => mebibytes)).toFixed(0),
  };
});
present("start", rows);
