/** The kinds of faults: what each breaks, and how it is whole again. */
import postgres from "postgres";
import type { Losses } from "../checker/history.ts";
import type { Random } from "../checker/random.ts";
import type { LinkProxy } from "../proxy.ts";
import type { Stage } from "./stage.ts";

export const kinds = [
  "kill",
  "stop",
  "clients",
  "postgres-link",
  "redis-link",
  "redis-restart",
  "redis-pause",
  "flush",
  "postgres-restart",
  "snapshot",
  "failover",
] as const;
export type Kind = (typeof kinds)[number];

/** Kinds that every stage can have, and nothing that others' work in the database would not bring by itself. */
export const plainKinds = kinds.filter((kind) => kind !== "snapshot" && kind !== "failover");

/** One fault, chosen but not begun. */
export interface Fault extends Losses {
  kind: Kind;
  /** For people: what happens to whom for how long. */
  text: string;
  /** Names what it breaks; two faults never break one thing at once. */
  target: string;
  /** Breaks it; resolves once it is mended. `wait` returns sooner where the run ends. */
  run(wait: (ms: number) => Promise<void>): Promise<void>;
}

/** Longest, ms: some of them are beyond the time after which a node counts as dead. */
const outageMs = { least: 100, most: 4_000 };

/** Chooses a fault. @returns null where this stage cannot have one of the kind */
export function chooseFault(kind: Kind, { stage, random }: { stage: Stage; random: Random }): Fault | null {
  const node = random.pick(stage.nodes);
  const server = random.pick(stage.redis);
  // Everything is drawn before anything is left out: with one seed, one course of events.
  const lengthMs = random.between(outageMs.least, outageMs.most);
  const way = random.pick(["cut", "freeze", "delay"] as const);
  const delayMs = random.between(20, 400);
  // Where there is but one there is nothing to draw, and the courses of old seeds stay as they are.
  const toRedis = node.toRedis.length === 1 ? node.toRedis[0]! : random.pick(node.toRedis);

  const linkFault = (name: string, link: LinkProxy): Fault => ({
    kind,
    text: `${name} of ${node.name}: ${way}${way === "delay" ? ` by ${delayMs} ms` : ""} for ${lengthMs} ms`,
    target: `${name} of ${node.name}`,
    async run(wait) {
      if (way === "delay") link.delay(delayMs);
      else link[way]();
      await wait(lengthMs);
      link.heal();
    },
  });

  switch (kind) {
    case "kill":
      return {
        kind,
        text: `${node.name} is killed, started after ${lengthMs} ms`,
        target: node.name,
        losesMemoryOf: "node",
        async run(wait) {
          await node.kill();
          await wait(lengthMs);
          await node.restart();
        },
      };
    case "stop":
      return {
        kind,
        text: `${node.name} stands still for ${lengthMs} ms`,
        target: node.name,
        async run(wait) {
          const { signal } = node.service();
          signal("SIGSTOP");
          await wait(lengthMs);
          signal("SIGCONT");
        },
      };
    case "clients":
      return linkFault("the link to clients", node.toClients);
    case "postgres-link":
      return linkFault("the link to PostgreSQL", node.toPostgres);
    case "redis-link":
      return linkFault(`the link to ${toRedis.name}`, toRedis.link);
    case "redis-restart":
      return {
        kind,
        text: `Redis at ${stage.redis.indexOf(server)} is killed, back empty after ${lengthMs} ms`,
        target: "Redis",
        losesMemoryOf: "Redis",
        async run(wait) {
          await server.kill();
          await wait(lengthMs);
          await server.restart();
        },
      };
    case "redis-pause":
      return {
        kind,
        text: `Redis at ${stage.redis.indexOf(server)} stands still for ${lengthMs} ms`,
        target: "Redis",
        async run(wait) {
          server.pause();
          await wait(lengthMs);
          server.resume();
        },
      };
    case "flush":
      return { kind, text: "Redis is emptied", target: "Redis", losesMemoryOf: "Redis", run: () => stage.flushRedis() };
    case "postgres-restart":
      return !stage.postgres.isOwn
        ? null
        : {
            kind,
            text: `PostgreSQL is halted for ${lengthMs} ms`,
            target: "PostgreSQL",
            async run(wait) {
              await stage.postgres.halt();
              await wait(lengthMs);
              await stage.postgres.resume();
            },
          };
    case "snapshot":
      return {
        kind,
        text: `a session holds a snapshot for ${snapshotTimes * lengthMs} ms`,
        target: "a snapshot",
        run: (wait) => holdSnapshot(stage.databaseUrl(), () => wait(snapshotTimes * lengthMs)),
      };
    case "failover":
      return failoverFault(stage, { lengthMs, how: way === "cut" ? "orderly" : "at once" });
    default:
      return kind satisfies never;
  }
}

/** Longer than the others last, for it only grows heavy with time. */
const snapshotTimes = 5;

/** As a dump, or a session that somebody has forgotten, would; it dies with its server. */
async function holdSnapshot(url: string, wait: () => Promise<void>): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql.unsafe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ws.topics").catch(() => {});
    await wait();
  } finally {
    await sql.end({ timeout: 1 });
  }
}

function failoverFault({ failover }: Stage, { lengthMs, how }: { lengthMs: number; how: "at once" | "orderly" }) {
  if (failover === null) return null;
  const isLossy = failover.replication === "asynchronous";
  return {
    kind: "failover" as const,
    text: isLossy
      ? `the standby falls behind for ${lengthMs} ms, then it takes the primary's place`
      : `the primary goes ${how}, and after ${lengthMs} ms its standby takes its place`,
    target: "PostgreSQL",
    losesLog: isLossy,
    async run(wait: (ms: number) => Promise<void>) {
      if (!isLossy) return failover.run({ how, pause: () => wait(lengthMs) });
      failover.fallBehind();
      await wait(lengthMs);
      await failover.run({ how: "at once", pause: async () => {} });
    },
  };
}
