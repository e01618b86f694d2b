/** A real HAProxy in front of nodes, by the project's own file, on a free port and in a throw-away folder. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificate } from "./certificates.ts";
import { debianProgram } from "./debian.ts";
import { freePorts } from "./free-ports.ts";
import { fittedConfiguration, type ProxyOptions, type RunningProxy } from "./proxy-file.ts";
import { until } from "./until.ts";

export const findHaproxy = () => debianProgram("haproxy", { package: "haproxy" });

export interface Haproxy extends RunningProxy {
  /** Asks it at its control socket, and gives back what it answers. */
  ask(question: string): Promise<string>;
  /** Every line of its log of requests so far. */
  accessLog(): Promise<string>;
}

const names = ["one", "two", "three"];

export async function startHaproxy({ nodes, hasTls = false, without = [] }: ProxyOptions): Promise<Haproxy> {
  const program = findHaproxy();
  const [port] = (await freePorts(1)) as [number];
  const folder = mkdtempSync(join(tmpdir(), "ws-haproxy-"));
  if (hasTls) {
    makeCertificate(folder, "127.0.0.1");
    const both = ["cert.pem", "key.pem"].map((name) => readFileSync(join(folder, name), "utf8")).join("");
    await Bun.write(join(folder, "both.pem"), both);
  }
  const text = fittedConfiguration("haproxy.cfg", [
    ...without.map((pattern): [RegExp, string] => [pattern, ""]),
    [/^ {2}user .*\n {2}group .*\n/m, ""],
    [/log \/dev\/log local0/, "log stdout format raw local0"],
    // So many files may be open on a test's machine.
    [/^ {2}maxconn 50000$/m, "  maxconn 1000"],
    [/\/run\/haproxy\/admin\.sock/, join(folder, "control")],
    [/bind :443 ssl crt \S+/, `bind 127.0.0.1:${port}${hasTls ? ` ssl crt ${folder}/both.pem` : ""}`],
    [
      /( *server \w+ 10\.0\.0\.\d:8086\n){3}/,
      nodes.map((node, at) => `  server ${names[at]} 127.0.0.1:${node}\n`).join(""),
    ],
  ]);
  const file = join(folder, "haproxy.cfg");
  await Bun.write(file, text);
  const log = join(folder, "log");
  const child = Bun.spawn([program, "-f", file, "-db"], {
    stdin: "ignore",
    stdout: Bun.file(log),
    stderr: Bun.file(join(folder, "errors")),
  });
  const address = `${hasTls ? "https" : "http"}://127.0.0.1:${port}`;
  const isUp = async () => (await fetch(address, { tls: { rejectUnauthorized: false } }).catch(() => null)) !== null;
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`haproxy: ${await Bun.file(join(folder, "errors")).text()}`);
    return isUp();
  });
  return {
    url: `${address.replace("http", "ws")}/ws`,
    ask: (question) => ask(join(folder, "control"), question),
    accessLog: () => Bun.file(log).text(),
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

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
