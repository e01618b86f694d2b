/** Proves behind a real HAProxy, with its default check, that a node is taken out of the balance when it is not ready. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { findHaproxy } from "../support/needs.ts";
import { startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Asks HAProxy at its control socket, and gives back what it answers. */
async function ask(unix: string, question: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  await Bun.connect({
    unix,
    socket: {
      open: (socket) => void socket.write(`${question}\n`),
      data: (_, data) => void (text += data),
      close: () => resolve(text),
    },
  });
  return promise;
}

test("[END2] HAProxy's check as it is by default finds the node, and no longer once it drains", async () => {
  const haproxy = findHaproxy();
  const service = await startService({ settings: { SERVER__DRAIN_WINDOW: "5s", SERVER__DRAIN_TIMEOUT: "10s" } });
  cleanups.push(() => service.stop());
  const folder = mkdtempSync(join(tmpdir(), "ws-haproxy-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const [port] = await freePorts(1);
  const file = join(folder, "haproxy.cfg");
  writeFileSync(
    file,
    `global
  stats socket ${folder}/control
defaults
  mode http
  timeout connect 2s
  timeout client 1m
  timeout server 1m
frontend public
  bind 127.0.0.1:${port}
  default_backend nodes
backend nodes
  option httpchk GET /ready
  server one 127.0.0.1:${service.port} check inter 100ms fall 1 rise 1
`,
  );
  const child = Bun.spawn([haproxy, "-f", file, "-db"], { stdout: "ignore", stderr: "ignore" });
  cleanups.push(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
  const checked = () => ask(join(folder, "control"), "show stat").catch(() => "");
  await eventually(checked, (it) => /^nodes,one,.*,L7OK,200,/m.test(it));
  const anna = await Client.connect(`ws://127.0.0.1:${port}/ws`, { query: { user_id: "anna" } });
  service.signal("SIGTERM");
  await eventually(checked, (it) => /^nodes,one,.*,L7STS,503,/m.test(it));
  expect((await anna.closed).code).toBe(1012);
});
