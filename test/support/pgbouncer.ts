/** A real PgBouncer in front of a test's PostgreSQL, as it is configured by default but for its mode, its size where that is given, and how soon it comes back. */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianProgram } from "./debian.ts";
import { freePorts } from "./free-ports.ts";

export type PoolMode = "session" | "transaction";

export interface Pooler {
  /** The same database through it. */
  url: string;
  /** Ends it and starts it again on the same port, in another mode. */
  restart(mode: PoolMode): Promise<void>;
  stop(): Promise<void>;
}

export const findPgBouncer = () => debianProgram("pgbouncer", { package: "pgbouncer" });

export interface PoolerOptions {
  url: string;
  mode: PoolMode;
  /** Servers that it connects to at most; left out: its default. */
  size?: number;
}

export async function startPgBouncer({ url, mode, size }: PoolerOptions): Promise<Pooler> {
  const program = findPgBouncer();
  const { hostname, port: behind, username } = new URL(url);
  const [port] = await freePorts(1);
  const folder = mkdtempSync(join(tmpdir(), "ws-pgbouncer-"));
  chmodSync(folder, 0o755);
  const file = join(folder, "pgbouncer.ini");

  async function run(wanted: PoolMode) {
    const settings = [
      "[databases]",
      `* = host=${hostname} port=${behind} user=${username}`,
      "[pgbouncer]",
      "listen_addr = 127.0.0.1",
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "auth_type = any",
      `pool_mode = ${wanted}`,
      // Its 15 s after a server that was away are no part of what is tried here.
      "server_login_retry = 1",
      ...(size === undefined ? [] : [`default_pool_size = ${size}`]),
      // It does not run as root.
      ...(process.getuid?.() === 0 ? ["user = nobody"] : []),
    ];
    await Bun.write(file, `${settings.join("\n")}\n`);
    const child = Bun.spawn([program, file], { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    const up = Promise.withResolvers<void>();
    void (async () => {
      let text = "";
      const decoder = new TextDecoder();
      for await (const chunk of child.stderr) {
        if (text.length < 1 << 16) text += decoder.decode(chunk, { stream: true });
        if (text.includes("process up")) up.resolve();
      }
      up.reject(new Error(`PgBouncer has ended: ${text}`));
    })();
    await up.promise;
    return child;
  }

  let child = await run(mode);
  async function end(): Promise<void> {
    child.kill("SIGKILL");
    await child.exited;
  }
  return {
    url: Object.assign(new URL(url), { host: `127.0.0.1:${port}` }).href,
    async restart(wanted) {
      await end();
      child = await run(wanted);
    },
    async stop() {
      await end();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
