/** Proves the command line by running it: exit codes, what it prints where, and that nothing hangs. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packageFile from "../../package.json" with { type: "json" };
import { parseArgs } from "../../src/commands/args.ts";
import { type Command, UsageError } from "../../src/commands/command.ts";
import { makeCertificate } from "../support/certificates.ts";
import { program } from "../support/program.ts";

const project = join(import.meta.dir, "../..");
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ws-commands-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs the program in an empty folder with an empty environment. */
async function run(words: string[], { env = {}, cwd = folder }: { env?: Record<string, string>; cwd?: string } = {}) {
  const child = Bun.spawn([...program, ...words], {
    cwd,
    env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

describe("the command line", () => {
  test("[OPS1] help lists every command, and each explains itself", async () => {
    const { stdout, code } = await run(["--help"]);
    expect(code).toBe(0);
    for (const name of ["serve", "config", "token", "migrate", "connect", "health", "version"])
      expect(stdout).toMatch(new RegExp(`^  ${name} +\\S`, "m"));
    const one = await run(["health", "--help"]);
    expect(one.code).toBe(0);
    expect(one.stdout).toContain("usage: ws-service health");
    expect(one.stdout).toMatch(/--timeout <duration> +\S/);
  });

  test("[OPS1] an unknown command or option names the nearest and ends with 2", async () => {
    const command = await run(["confg", "check"]);
    expect(command).toMatchObject({ code: 2, stdout: "" });
    expect(command.stderr).toContain("nearest is config");
    const option = await run(["config", "check", "--confgi=x"]);
    expect(option).toMatchObject({ code: 2, stdout: "" });
    expect(option.stderr).toContain("nearest is --config");
    const far = 'ws-service: there is no command "foo"\nSee ws-service --help.\n';
    expect(await run(["foo"])).toEqual({ code: 2, stdout: "", stderr: far });
    expect((await run(["version", "--port", "1"])).stderr).toStartWith("ws-service: version has no option --port\n");
    expect(await run(["constructor"])).toMatchObject({ code: 2 });
    expect(await run(["version", "now"])).toMatchObject({ code: 2 });
  });

  test("[OPS1] version prints the service's and Bun's", async () => {
    const expected = { code: 0, stderr: "", stdout: `ws-service ${packageFile.version} (bun ${Bun.version})\n` };
    expect(await run(["version"])).toEqual(expected);
    expect(await run(["--version"])).toEqual(expected);
  });
});

describe("arguments", () => {
  const command: Command = {
    name: "example",
    summary: "",
    usage: "",
    examples: ["example"],
    options: { name: { summary: "", value: "name" }, loud: { summary: "" } },
    wordsMax: 2,
    run: async () => 0,
  };
  const parse = (...argv: string[]) => parseArgs(command, argv);

  test("[OPS1] are values in both forms, switches and words, in any order", () => {
    const args = parse("one", "--name", "a", "--loud", "two", "--name=b=c");
    expect(args.words).toEqual(["one", "two"]);
    expect(args.value("name")).toBe("b=c");
    expect(args.values("name")).toEqual(["a", "b=c"]);
    expect(args.has("loud")).toBeTrue();
    expect(parse("--loud=false").has("loud")).toBeFalse();
    expect(parse("--name=").value("name")).toBe("");
    expect(parse("--", "--loud").words).toEqual(["--loud"]);
    expect(parse().value("name")).toBeUndefined();
  });

  test("[OPS1] that make no sense are refused", () => {
    for (const argv of [["--name"], ["--name", "--loud"], ["--loud=1"], ["--lod"], ["a", "b", "c"], ["--toString"]])
      expect(() => parse(...argv)).toThrow(UsageError);
  });
});

describe("config", () => {
  test("[OPS2] check says ok, or every fault at once", async () => {
    expect(await run(["config", "check"])).toEqual({ code: 0, stdout: "ok\n", stderr: "" });
    expect(await run(["config", "check"], { cwd: project })).toEqual({ code: 0, stdout: "ok\n", stderr: "" });
    const env = { WS__WEBSOCKET__PONG_WAIT: "soon", WS__AUTH__SECRET: "hunter2", WS__NOTHING: "1" };
    const { code, stdout, stderr } = await run(["config", "check"], { env });
    expect({ code, stdout }).toEqual({ code: 78, stdout: "" });
    for (const text of ['websocket.pong_wait: "soon" must be', "auth.secret", "WS__NOTHING"])
      expect(stderr).toContain(text);
    expect(stderr).not.toContain("hunter2");
    expect(stderr).not.toContain("    at ");
  });

  test("[OPS2] [MSG4] check refuses what a start refuses of events", async () => {
    const ours = await run(["config", "check"], { env: { WS__EVENTS: "poll.vote=logged,message.new=logged" } });
    expect(ours.code).toBe(78);
    expect(ours.stderr).toContain("events: message.new: types of the protocol's own");
  });

  test("[OPS2] check tells what has no effect", async () => {
    const { code, stderr } = await run(["config", "check"], { env: { WS__WEBSOCKET__READ_BUFFER_SIZE: "1KiB" } });
    expect(code).toBe(0);
    expect(stderr).toBe(
      "note: websocket.read_buffer_size (WS__WEBSOCKET__READ_BUFFER_SIZE) has no effect here: Bun sizes its socket buffers itself\n",
    );
  });

  test("[OPS2] print shows what is in force, from where, without secrets", async () => {
    const file = join(folder, "printed.yaml");
    await Bun.write(file, "log: { level: warn }\n");
    const env = { DATABASE_URL: "postgres://app:hunter2@db/chat" };
    const { code, stdout } = await run(["config", "print", "--config", file], { env });
    expect(code).toBe(0);
    expect(stdout).toContain(`  level: warn  # ${file}\n`);
    expect(stdout).toContain("app:********@db/chat  # DATABASE_URL\n");
    expect(Bun.YAML.parse(stdout)).toMatchObject({ websocket: { ping_period: "54s" }, server: { port: 8086 } });
  });

  test("[OPS1] needs to know what to do", async () => {
    expect(await run(["config"])).toMatchObject({ code: 2 });
    expect(await run(["config", "chek"])).toMatchObject({ code: 2 });
    expect((await run(["config", "check", "--config=gone.yaml"])).stderr).toContain(
      "gone.yaml is not there (--config)",
    );
  });
});

describe("health", () => {
  /** Serves `/ready` with a status, or never answers, until disposed. */
  function service(status: number | "never", tls?: { cert: string; key: string }) {
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      tls,
      fetch: () => (status === "never" ? new Promise<Response>(() => {}) : new Response("", { status })),
    });
    return { server, url: `${server.url}ready`, [Symbol.dispose]: () => void server.stop(true) };
  }

  test("[END2] is 0 with one line where the service is ready", async () => {
    using ready = service(200);
    expect(await run(["health", "--url", ready.url])).toEqual({ code: 0, stdout: `ok: ${ready.url}\n`, stderr: "" });
  });

  test("[END2] is 1 with one line where it is not, not there, or silent", async () => {
    using draining = service(503);
    using silent = service("never");
    const gone = service(200);
    await gone.server.stop(true);
    // A server that answers has all the time that a busy machine needs.
    const cases = [
      [draining.url, "1m", "503"],
      [silent.url, "50ms", "no answer in 50 ms"],
      [gone.url, "1m", ""],
    ] as const;
    for (const [url, timeout, said] of cases) {
      const { code, stdout, stderr } = await run(["health", "--url", url, "--timeout", timeout]);
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toStartWith(`not ready: ${url}: ${said}`);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
  });

  test("[END2] asks where the configuration says, and no proxy", async () => {
    using ready = service(200);
    const env = { WS__SERVER__HOST: "0.0.0.0", WS__AUTH__BEHIND_GATEWAY: "true", PORT: String(ready.server.port) };
    const dead = "http://127.0.0.1:1";
    expect(await run(["health"], { env: { ...env, HTTP_PROXY: dead, http_proxy: dead } })).toMatchObject({
      code: 0,
      stdout: `ok: ${ready.url}\n`,
    });
    expect(await run(["health"], { env: { PORT: "0" } })).toMatchObject({ code: 2 });
  });

  test("[OPS1] refuses what is no URL or no duration", async () => {
    expect(await run(["health", "--url", "ftp://127.0.0.1"])).toMatchObject({ code: 2 });
    expect(await run(["health", "--timeout", "soon"])).toMatchObject({ code: 2 });
  });

  test("[END2] asks the service of the configuration whatever its certificate says, and others only where told to", async () => {
    const name = makeCertificate(folder, "chat.test");
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    using ready = service(200, { cert: await Bun.file(cert).text(), key: await Bun.file(key).text() });
    const healthy = { code: 0, stdout: `ok: ${ready.url}\n`, stderr: "" };
    expect(await run(["health", "--url", ready.url])).toMatchObject({ code: 1, stdout: "" });
    expect(await run(["health", "--url", ready.url, "--insecure"])).toEqual(healthy);
    const env = { PORT: String(ready.server.port), WS__SERVER__TLS__CERT_FILE: cert, WS__SERVER__TLS__KEY_FILE: key };
    expect(await run(["health"], { env })).toEqual(healthy);
    // While the files are replaced the service goes on with what it has read.
    await Bun.write(cert, `half of ${name}`);
    expect(await run(["health"], { env })).toEqual(healthy);
  });
});
