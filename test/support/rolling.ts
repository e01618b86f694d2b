/** Three nodes on one ground that are restarted one after another, as an orchestrator does it. */
import { expect } from "bun:test";
import type { Faults } from "./checker/population.ts";
import { freePorts } from "./free-ports.ts";
import { layGround } from "./ground.ts";
import { type Service, startService } from "./service.ts";

export const drainWindowMs = 1_000;
export const nodeCount = 3;

export interface RollingNodes {
  /** They keep their ports. */
  ports: readonly number[];
  /** Told to end, waited for, and a new one in its place. */
  restart(index: number): Promise<void>;
  node(index: number): Service;
  /** Restarts all nodes in turn, until the run is over and each has been restarted. */
  restarts(): Faults & { count(): number };
  stop(): Promise<void>;
}

export async function startRollingNodes(settings: Record<string, string> = {}): Promise<RollingNodes> {
  const ground = await layGround();
  const startNode = (port: number) =>
    startService({
      settings: {
        ...ground.settings,
        SERVER__PORT: String(port),
        SERVER__DRAIN_WINDOW: `${drainWindowMs}ms`,
        SERVER__DRAIN_TIMEOUT: "10s",
        PRESENCE__OFFLINE_GRACE: "10s",
        CLUSTER__DEAD_AFTER: "20s",
        ...settings,
      },
    });
  const ports = await freePorts(nodeCount);
  const nodes = await Promise.all(ports.map(startNode));

  async function restart(index: number): Promise<void> {
    const node = nodes[index]!;
    node.signal("SIGTERM");
    expect(await node.exited).toBe(0);
    await node.stop();
    nodes[index] = await startNode(node.port);
  }

  function restarts(): Faults & { count(): number } {
    let running: Promise<void> = Promise.resolve();
    let stopped = false;
    let count = 0;
    async function roll(): Promise<void> {
      while (!stopped || count < nodeCount) await restart(count++ % nodeCount);
    }
    return {
      start() {
        running = roll();
      },
      async stop() {
        stopped = true;
        await running;
      },
      count: () => count,
    };
  }

  return {
    ports,
    restart,
    node: (index) => nodes[index]!,
    restarts,
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
      await ground.stop();
    },
  };
}
