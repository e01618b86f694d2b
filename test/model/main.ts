/** Explores the log's models further than the tests do: `npm run test:model -- --bounds three`. */
import { parseArgs } from "node:util";
import { largerWorlds, worlds } from "./bounds.ts";
import { explore } from "./explore.ts";
import { type Bounds, protocolOf } from "./protocol.ts";

const all: Record<string, Bounds> = { ...worlds, ...largerWorlds };
const { values } = parseArgs({
  options: { bounds: { type: "string", multiple: true }, states: { type: "string", default: "5000000" } },
});
const chosen = values.bounds ?? Object.keys(all);

let faults = 0;
for (const name of chosen) {
  const world = all[name];
  if (world === undefined) throw new Error(`--bounds takes ${Object.keys(all).join(", ")}`);
  const startedAt = performance.now();
  const { states, fault } = explore(protocolOf(world), { statesMax: Number(values.states) });
  const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
  console.log(`${name}: ${states} states in ${seconds} s, ${fault === null ? "nothing found" : fault.what}`);
  for (const step of fault?.trace ?? []) console.log(`  ${step}`);
  if (fault !== null) faults++;
}
process.exit(faults === 0 ? 0 : 1);
