/** Says where the service's time goes for one unit of a scenario, by file of ours: from the runtime's profile of the loop, and the CPU of each thread. */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Scenario } from "./comparison.ts";
import { Contender, type KindName, type StartOptions } from "./contenders.ts";
import { present, type Row } from "./measured.ts";
import { temporaryFolder } from "./temporary.ts";

const root = resolve(import.meta.dir, "../..");
/** Of the loop; what is less is told as a sum. */
const leastShare = 0.02;
/** By their names in the kernel. */
const knownThreads: Record<string, string> = {
  Worker: "SQLite's Worker",
  JITWorker: "the compiler",
  HeapHelper: "the collector",
};

interface Profile {
  nodes: { id: number; callFrame: { url: string }; children?: number[] }[];
  samples: number[];
  /** In µs, the first since `startTime`, which is in µs since 1970. */
  timeDeltas: number[];
  startTime: number;
}

export async function profile(scenario: Scenario, options: StartOptions & { rounds: number }): Promise<void> {
  const folder = temporaryFolder("ws-service-profile");
  const name = scenario.contenders.findLast((each) => each.startsWith("service")) as KindName;
  const contender = await Contender.start(name, { ...options, profileFolder: folder });
  try {
    await scenario.prepare(contender);
    const play = async () => {
      const { units } = await scenario.measure(contender);
      await scenario.after?.(contender);
      return units;
    };
    if (!scenario.isFresh) await play();
    const [from, before] = [Date.now() * 1_000, contender.threads()];
    let units = 0;
    for (let round = 0; round < (scenario.isFresh ? 1 : options.rounds); round++) units += await play();
    const [to, after] = [Date.now() * 1_000, contender.threads()];
    await contender.load({ do: "leave" });
    await contender.finish();
    const threads = [...after].map(([id, { name: thread, seconds }]) => ({
      thread: id === contender.pid ? "the loop" : thread,
      each: ((seconds - (before.get(id)?.seconds ?? 0)) * 1e6) / units,
    }));
    const [file] = readdirSync(folder).filter((each) => each.endsWith(".cpuprofile"));
    const shares = sharesOf(JSON.parse(readFileSync(join(folder, file!), "utf8")) as Profile, { from, to });
    const suffix = options.storage === undefined ? "" : "-postgres";
    present(`profile-${scenario.name}${suffix}`, rowsOf({ unit: scenario.unit, threads, shares }));
  } finally {
    await contender.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @returns of the samples between two moments, the share of each file of ours: what the platform does is of who has called it */
function sharesOf({ nodes, samples, timeDeltas, startTime }: Profile, { from, to }: { from: number; to: number }) {
  const fileOf = new Map<number, string>();
  const children = new Set(nodes.flatMap((node) => node.children ?? []));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const pending = nodes.filter(({ id }) => !children.has(id)).map((node) => ({ node, caller: "the platform alone" }));
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { node, caller } = next;
    const file = /(?:^|\/)((?:src|node_modules)\/[^?]+)$/.exec(node.callFrame.url)?.[1] ?? caller;
    fileOf.set(node.id, file);
    for (const child of node.children ?? []) pending.push({ node: byId.get(child)!, caller: file });
  }
  const counts = new Map<string, number>();
  let [at, all] = [startTime, 0];
  for (const [index, sample] of samples.entries()) {
    at += timeDeltas[index]!;
    if (at < from || at > to) continue;
    const file = fileOf.get(sample)!;
    counts.set(file, (counts.get(file) ?? 0) + 1);
    all++;
  }
  return [...counts].map(([file, count]) => ({ file, share: count / all })).sort((a, b) => b.share - a.share);
}

interface Budget {
  unit: string;
  threads: { thread: string; each: number }[];
  shares: { file: string; share: number }[];
}

function rowsOf({ unit, threads, shares }: Budget): Row[] {
  const perUnit = `µs/${unit}`;
  const all = threads.reduce((sum, { each }) => sum + each, 0);
  const byName = new Map<string, number>();
  for (const { thread, each } of threads) byName.set(thread, (byName.get(thread) ?? 0) + each);
  const loop = byName.get("the loop")!;
  const row = (where: string, each: number, what: string): Row => ({
    where,
    [perUnit]: each.toFixed(1),
    "of all": `${((each / all) * 100).toFixed(0)} %`,
    what,
  });
  const large = shares.filter(({ share }) => share >= leastShare);
  const rest = 1 - large.reduce((sum, { share }) => sum + share, 0);
  const others = [...byName].filter(([thread, each]) => thread !== "the loop" && each / all >= leastShare);
  return [
    row("everything", all, "CPU of all threads, in the kernel too"),
    row("the loop", loop, "of which:"),
    ...large.map(({ file, share }) => row(file, share * loop, openingOf(file))),
    row("other files", rest * loop, `each below ${leastShare * 100} % of the loop`),
    ...others
      .sort(([, a], [, b]) => b - a)
      .map(([thread, each]) => row(knownThreads[thread] ?? `threads: ${thread}`, each, "in threads of their own")),
  ];
}

/** A file of ours begins with one sentence of what it does. */
function openingOf(file: string): string {
  if (!file.startsWith("src/")) return "";
  return /^\/\*\* (.*?)(?:\.|:|;)? *\*\//.exec(readFileSync(join(root, file), "utf8"))?.[1]?.split(/[:;.] /)[0] ?? "";
}
