/** Runs the service as several processes of this program on one port, each of them a node of the cluster. */

import { availableParallelism } from "node:os";
import { ConfigError, type Fault } from "../config/faults.ts";
import { type LoadedConfig, loadConfig } from "../config/loader.ts";
import type { Config } from "../config/schema.ts";
import { realTimers } from "../ground/timers.ts";
import { createLogSink } from "../telemetry/logger.ts";
import { refuseTakenPort } from "../websocket/server.ts";
import { type CommandIo, UsageError } from "./command.ts";
import { findServiceManager } from "./service-manager.ts";
import { Supervisor, type WorkerProcess, type WorkerStart } from "./supervisor.ts";
import { type FromWorker, workerNumberVariable } from "./worker-link.ts";

const workersMax = 256;
/** Time that a worker needs beyond `server.drain_timeout` to close its connections to storage and cluster. */
const stopMarginMs = 10_000;

/** `4`, or `auto` for as many as there are cores. @throws UsageError */
export function parseWorkers(text: string): number {
  const count = text === "auto" ? availableParallelism() : Number(/^\d{1,3}$/.exec(text)?.[0]);
  if (!(count >= 1 && count <= workersMax))
    throw new UsageError(`--workers must be a whole number from 1 to ${workersMax}, or auto, not ${text}`);
  return count;
}

/**
 * Runs until all workers have ended.
 * @returns the exit code
 * @throws ConfigError where the configuration is not one that several processes can share
 */
export async function serveWorkers(
  { count, file }: { count: number; file: string | undefined },
  io: CommandIo,
): Promise<number> {
  const loaded = await loadConfig({ file, env: io.env, cwd: io.cwd });
  const { config, notices } = loaded;
  refuseUnshared(loaded, count);
  await refuseTakenPort(config.server);
  const sink = createLogSink(config.log);
  const { logger } = sink;
  for (const notice of notices) logger.warn(notice);
  const nodeId = config.cluster.node_id ?? Bun.randomUUIDv7();
  const manager = await findServiceManager(io.env, logger);
  const supervisor = new Supervisor({
    count,
    onAllUp: (port) => manager.ready(`serves port ${port} by ${count} workers`),
    spawn: (start) => spawnWorker(start, { config, nodeId, file, io }),
    drainPatienceMs: config.server.drain_timeout + stopMarginMs,
    logger,
    now: () => performance.now(),
    random: Math.random,
    ...realTimers,
  });
  io.signals.onTerminate(() => {
    manager.stopping(`draining ${count} workers`);
    supervisor.terminate();
  });
  io.signals.onHangup(() => supervisor.reload());
  const exitCode = await supervisor.run();
  logger.info({ code: exitCode }, "all workers have ended");
  await sink.flush();
  return exitCode;
}

/** Several processes share a log and a cluster, or users of one do not exist for those of another. */
function refuseUnshared({ config, origins }: LoadedConfig, count: number): void {
  if (count === 1) return;
  const faults: Fault[] = [];
  const refuse = (path: string, { value, expected }: Pick<Fault, "value" | "expected">) =>
    faults.push({ path, value, expected, origin: origins.get(path) ?? "default" });
  if (config.cluster.url === null)
    refuse("cluster.url", { value: "null", expected: `must be redis://… with --workers ${count}: each is a node` });
  if (config.storage.url.startsWith("sqlite:")) {
    const expected = `must be postgres://… with --workers ${count}: they share one log`;
    refuse("storage.url", { value: config.storage.url, expected });
  }
  const { listen } = config.operations;
  if (listen !== null && listen.port !== 0 && listen.port + count - 1 > 65_535) {
    const expected = `needs a port of its own for each of ${count} workers, from this one upwards`;
    refuse("operations.listen", { value: String(listen.port), expected });
  }
  if (faults.length > 0) throw new ConfigError(faults);
}

function spawnWorker(
  { workerNumber, port, onMessage, onExit }: WorkerStart,
  { config, nodeId, file, io }: { config: Config; nodeId: string; file: string | undefined; io: CommandIo },
): WorkerProcess {
  const { listen } = config.operations;
  const own: Record<string, string> = {
    [workerNumberVariable]: String(workerNumber),
    WS__CLUSTER__NODE_ID: `${nodeId}-${workerNumber}`,
  };
  if (port !== null) own.WS__SERVER__PORT = String(port);
  // Each worker has figures of its own: the first is asked for them at the configured port, the next at the one above.
  if (listen !== null) {
    const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
    own.WS__OPERATIONS__LISTEN = `${host}:${listen.port === 0 ? 0 : listen.port + workerNumber - 1}`;
  }
  const child = Bun.spawn([...io.program, "serve", ...(file === undefined ? [] : ["--config", file])], {
    cwd: io.cwd,
    env: { ...io.env, ...own },
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    serialization: "json",
    ipc: (message) => onMessage(message as FromWorker),
    onExit: ({ signalCode }, code) => onExit({ code, signal: signalCode === null ? null : String(signalCode) }),
  });
  return {
    pid: child.pid,
    send(message) {
      // A worker that has just gone is noticed by its end.
      if (child.exitCode === null && child.signalCode === null) {
        try {
          child.send(message);
        } catch {}
      }
    },
    kill: (signal) => child.kill(signal),
  };
}
