/** The long run: `npm run test:faults -- --minutes 30 --seed 1 --engine redis --replication synchronous --kinds kill,failover --traffic changes`; round after round. */
import { parseArgs } from "node:util";
import { createRandom } from "../checker/random.ts";
import { changesBehaviour, presenceBehaviour } from "../checker/traffic.ts";
import { type Kind, kinds } from "./kinds.ts";
import { runRound } from "./run.ts";
import { type Engine, engines, type Stage } from "./stage.ts";

/** Names what clients do most. */
const traffics = { usual: undefined, presence: presenceBehaviour, changes: changesBehaviour };
const replications = ["none", "synchronous", "asynchronous"] as const;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    seed: { type: "string" },
    /** Seconds of faults in one round. */
    seconds: { type: "string", default: "45" },
    /** Several with commas, in turn. */
    engine: { type: "string", default: engines.join(",") },
    /** Of PostgreSQL: none (one server), synchronous, asynchronous; several with commas, in turn. */
    replication: { type: "string", default: replications.join(",") },
    kinds: { type: "string", default: kinds.join(",") },
    users: { type: "string", default: "12" },
    traffic: { type: "string", default: "usual" },
  },
});

function several<Name extends string>(text: string, known: readonly Name[]): Name[] {
  const names = text.split(",");
  const unknown = names.filter((name) => !known.includes(name as Name));
  if (unknown.length > 0) throw new Error(`${unknown.join(", ")}: known are ${known.join(", ")}`);
  return names as Name[];
}

const chosenEngines: Engine[] = several(values.engine, engines);
const chosenReplications = several(values.replication, replications);
const [traffic] = several(values.traffic, Object.keys(traffics) as (keyof typeof traffics)[]);
const chosenKinds: Kind[] = several(values.kinds, kinds);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const random = createRandom(seed);
const endsAt = performance.now() + Number(values.minutes) * 60_000;
console.log(`seed ${seed}`);

let stage: Stage | null = null;
let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, async () => {
    interrupted = true;
    await stage?.stop();
    process.exit(130);
  });
}

let broken = 0;
let rounds = 0;
for (; performance.now() < endsAt && !interrupted; rounds++) {
  const engine = chosenEngines[rounds % chosenEngines.length]!;
  // The first round plays the seed itself, so that a later round is replayed by its own.
  const roundSeed = rounds === 0 ? seed : random.between(1, 2 ** 31);
  const chosen = chosenReplications[(rounds + Math.floor(rounds / chosenEngines.length)) % chosenReplications.length]!;
  const replication = chosen === "none" ? undefined : chosen;
  const options = {
    seed: roundSeed,
    engine,
    replication,
    kinds: chosenKinds,
    users: Number(values.users),
    behaviour: traffics[traffic!],
  };
  const onStage = (opened: Stage) => {
    stage = opened;
  };
  console.log(
    `\nround ${rounds + 1}: --seed ${roundSeed} --engine ${engine} --replication ${chosen} --traffic ${traffic}`,
  );
  try {
    const { violations, text } = await runRound({ ...options, durationMs: Number(values.seconds) * 1_000, onStage });
    console.log(text);
    if (violations > 0) broken++;
  } catch (error) {
    console.log(error);
    broken++;
  }
}
console.log(`\n${rounds} rounds, ${broken} broken`);
process.exit(broken === 0 ? 0 : 1);
