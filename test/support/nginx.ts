/** A real nginx in front of nodes, by the project's own file, on a free port and in a throw-away folder. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificate } from "./certificates.ts";
import { debianProgram } from "./debian.ts";
import { freePorts } from "./free-ports.ts";
import { fittedConfiguration, type ProxyOptions, type RunningProxy } from "./proxy-file.ts";
import { until } from "./until.ts";

export const findNginx = () => debianProgram("nginx", { package: "nginx-light" });

export interface Nginx extends RunningProxy {
  /** Every line of its log of requests so far. */
  accessLog(): Promise<string>;
  /** All that it has complained of so far. */
  errorLog(): Promise<string>;
}

export async function startNginx({ nodes, hasTls = false, without = [] }: ProxyOptions): Promise<Nginx> {
  const program = findNginx();
  const [port] = (await freePorts(1)) as [number];
  const folder = mkdtempSync(join(tmpdir(), "ws-nginx-"));
  // It is looked at in any case.
  makeCertificate(folder, "127.0.0.1");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder};`);
  const parameters = without.some((pattern) => pattern.test(" max_fails=0")) ? "" : " max_fails=0";
  const text = fittedConfiguration("nginx.conf", [
    ...without.map((pattern): [RegExp, string] => [pattern, ""]),
    [/^user .*$/m, process.getuid?.() === 0 ? "user root;" : ""],
    [/^pid .*$/m, `pid ${folder}/nginx.pid;\ndaemon off;\nerror_log ${folder}/error.log;`],
    [/^http \{$/m, `http {\n${temporary.join("\n")}`],
    [/\/var\/log\/nginx(?=\/)/g, folder],
    [
      /( *server 10\.0\.0\.\d:8086( .*)?;\n){3}/,
      nodes.map((node) => `server 127.0.0.1:${node}${parameters};\n`).join(""),
    ],
    [/listen 443 ssl;/, `listen 127.0.0.1:${port}${hasTls ? " ssl" : ""};`],
    [/\/etc\/ssl\/chat\.example\.com\.pem/, `${folder}/cert.pem`],
    [/\/etc\/ssl\/private\/chat\.example\.com\.key/, `${folder}/key.pem`],
  ]);
  await Bun.write(join(folder, "nginx.conf"), text);
  const child = Bun.spawn([program, "-p", folder, "-c", "nginx.conf", "-e", "error.log"], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  });
  const address = `${hasTls ? "https" : "http"}://127.0.0.1:${port}`;
  const isUp = async () => (await fetch(address, { tls: { rejectUnauthorized: false } }).catch(() => null)) !== null;
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`nginx: ${await Bun.file(join(folder, "error.log")).text()}`);
    return isUp();
  });
  return {
    url: `${address.replace("http", "ws")}/ws`,
    accessLog: () => Bun.file(join(folder, "access.log")).text(),
    errorLog: () => Bun.file(join(folder, "error.log")).text(),
    async stop() {
      // Tells its workers, too.
      child.kill("SIGTERM");
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
