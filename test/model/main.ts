/** Explores the log's models further than the tests do: `npm run test:model -- --bounds three --runs 20000 --seed 7`. */
import { parseArgs } from "node:util";
import { largerWorlds, worlds } from "./bounds.ts";
import { explore } from "./explore.ts";
import { type Bounds, protocolOf } from "./protocol.ts";
import { largeScenes, scenes } from "./scenarios.ts";
import { tryAll, trySome } from "./schedule.ts";
import { type Scenario, World } from "./world.ts";

const { values } = parseArgs({
  options: {
    /** Names of worlds of the protocol or of scenes; left out: all. */
    bounds: { type: "string", multiple: true },
    /** Orders of each large scene. */
    runs: { type: "string", default: "5000" },
    /** All orders of the large scenes that are named: some have no end that anybody waits for. */
    all: { type: "boolean", default: false },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    /** Timers that run out in a scene while something else can go on. */
    timers: { type: "string", default: "1" },
  },
});
const timers = Number(values.timers);
const order = { runs: Number(values.runs), seed: Number(values.seed) };

interface Outcome {
  count: string;
  fault: { what: string; trace: string[] } | null;
}

const explorations: Record<string, () => Outcome> = {};
for (const [name, world] of Object.entries({ ...worlds, ...largerWorlds } as Record<string, Bounds>)) {
  explorations[name] = () => {
    const { states, fault } = explore(protocolOf(world), { statesMax: 20_000_000 });
    return { count: `${states} states`, fault };
  };
}
for (const [name, scene] of Object.entries(scenes as Record<string, Scenario>)) {
  explorations[name] = () => {
    const { runs, fault } = tryAll(() => new World({ ...scene, timers }), { runsMax: 10_000_000 });
    return { count: `all ${runs} orders`, fault };
  };
}
for (const [name, scene] of Object.entries(largeScenes as Record<string, Scenario>)) {
  explorations[name] = () => {
    const play = () => new World({ ...scene, timers });
    const { runs, fault } = values.all ? tryAll(play, { runsMax: 100_000_000 }) : trySome(play, order);
    return { count: values.all ? `all ${runs} orders` : `${runs} orders by seed ${order.seed}`, fault };
  };
}

let faults = 0;
for (const name of values.bounds ?? Object.keys(explorations)) {
  const exploration = explorations[name];
  if (exploration === undefined) throw new Error(`--bounds takes ${Object.keys(explorations).join(", ")}`);
  const startedAt = performance.now();
  const { count, fault } = exploration();
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  console.log(`${name}: ${count} in ${seconds} s, ${fault === null ? "nothing found" : fault.what}`);
  for (const step of fault?.trace ?? []) console.log(`  ${step}`);
  if (fault !== null) faults++;
}
process.exit(faults === 0 ? 0 : 1);
