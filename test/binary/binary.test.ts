/** Proves the compiled binary: every command, a first exchange, its own configuration only, and how it ends. */
import { Database } from "bun:sqlite";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packageFile from "../../package.json" with { type: "json" };
import { Client } from "../support/client.ts";
import { binaryFile, runBinary } from "../support/program.ts";
import { type Service, type ServiceOptions, startService } from "../support/service.ts";

let folder: string;
const services: Service[] = [];
beforeAll(() => {
  if (!existsSync(binaryFile)) throw new Error("dist/ws-service is not there; make it with: bun build.ts");
  folder = mkdtempSync(join(tmpdir(), "ws-binary-"));
});
afterEach(async () => {
  for (const service of services.splice(0)) await service.stop();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (words: string[], options: { env?: Record<string, string>; stdin?: string; cwd?: string } = {}) =>
  runBinary(words, { cwd: folder, ...options });

async function start(options: ServiceOptions = {}): Promise<Service> {
  const service = await startService({ isBinary: true, ...options });
  services.push(service);
  return service;
}

const talk = async ({ url }: Service, user_id: string) => {
  const client = await Client.connect(url, { query: { user_id } });
  await client.ask("subscribe", { topics: ["conversation:c1"] });
  return client;
};

describe("the commands of the binary", () => {
  const names = [
    "serve",
    "config",
    "token",
    "migrate",
    "backup",
    "restore",
    "connect",
    "admin",
    "health",
    "completions",
    "version",
  ];

  test("each has its help", async () => {
    const { code, stdout } = await run(["--help"]);
    expect(code).toBe(0);
    for (const name of names) {
      expect(stdout).toMatch(new RegExp(`^  ${name} +\\S`, "m"));
      const help = await run([name, "--help"]);
      expect(help).toMatchObject({ code: 0, stderr: "" });
      expect(help.stdout).toContain(`usage: ws-service ${name}`);
    }
  });

  test("version, and 2 for what is no command", async () => {
    expect((await run(["version"])).stdout).toBe(`ws-service ${packageFile.version} (bun ${Bun.version})\n`);
    expect(await run(["srve"])).toMatchObject({ code: 2, stdout: "" });
  });

  test("config check and print", async () => {
    expect(await run(["config", "check"])).toEqual({ code: 0, stdout: "ok\n", stderr: "" });
    const printed = await run(["config", "print"], { env: { PORT: "9000" } });
    expect(Bun.YAML.parse(printed.stdout)).toMatchObject({ server: { port: 9000 } });
    const faulty = await run(["config", "check"], { env: { PORT: "many" } });
    expect(faulty).toMatchObject({ code: 78, stdout: "" });
    expect(faulty.stderr).toContain("server.port");
  });

  test("[CON2] [AUTH2] token mints what the service lets in", async () => {
    const secret = "a secret of at least thirty-two bytes";
    const minted = await run(["token", "--user", "anna"], { env: { WS__AUTH__SECRET: secret } });
    expect(minted.code).toBe(0);
    const service = await start({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
    const client = await Client.connect(service.url, { query: { token: minted.stdout.trim() } });
    expect((await client.next("connected")).payload.user_id).toBe("anna");
  });

  test("[END2] health is 0 where the service is ready and 1 where it is gone", async () => {
    const service = await start();
    const env = { PORT: String(service.port) };
    expect(await run(["health"], { env })).toMatchObject({ code: 0 });
    await service.kill();
    expect(await run(["health"], { env })).toMatchObject({ code: 1 });
  });

  test("[MSG1] connect says what a script tells it to", async () => {
    const service = await start();
    const anna = await talk(service, "anna");
    const script = await run(["connect", "--json", "--url", service.url, "--user", "ben"], {
      stdin: "/send c1 hello\n",
    });
    expect(script.code).toBe(0);
    expect((await anna.next("message.new")).payload).toMatchObject({ sender_id: "ben", content: "hello" });
  });

  test("migrate makes the schema, finds it made, and refuses a newer one", async () => {
    const env = { WS__STORAGE__URL: "sqlite:migrated/log.db" };
    const file = join(folder, "migrated/log.db");
    const where = "sqlite:migrated/log.db";
    const made = await run(["migrate"], { env });
    expect(made).toMatchObject({ code: 0, stderr: "" });
    expect(made.stdout).toMatch(/^sqlite:migrated\/log\.db: schema made, version \d+\n$/);
    const version = Number(/\d+$/.exec(made.stdout.trim())![0]);
    expect(await run(["migrate"], { env })).toEqual({
      code: 0,
      stdout: `${where}: schema is at version ${version} already\n`,
      stderr: "",
    });
    const database = new Database(file);
    database.exec(`PRAGMA user_version = ${version + 6}`);
    database.close();
    expect(await run(["migrate"], { env })).toEqual({
      code: 1,
      stdout: "",
      stderr: `${where}: not migrated: the database has schema version ${version + 6}, this build knows versions up to ${version}\n`,
    });
    const refused = await run(["serve"], { env: { ...env, PORT: "0" } });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(`schema version ${version + 6}`);
  });
});

describe("the service as a binary", () => {
  for (const words of [["serve"], []]) {
    test(`[MSG1] serves a first exchange, started with ${words[0] ?? "no word"}`, async () => {
      const service = await start({ words });
      const [anna, ben] = [await talk(service, "anna"), await talk(service, "ben")];
      const ack = await anna.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hi" });
      expect((await ben.next("message.new")).seq).toBe(ack.seq);
    });
  }

  test("obeys neither .env nor bunfig.toml of the working directory", async () => {
    const cwd = mkdtempSync(join(folder, "strange-"));
    writeFileSync(join(cwd, ".env"), "WS__SERVER__HOST=nowhere.invalid\nWS__LOG__LEVEL=silent\n");
    writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(join(cwd, "preload.ts"), 'require("node:fs").writeFileSync("obeyed", "");\n');
    const service = await start({ folder: cwd });
    const client = await Client.connect(service.url, { query: { user_id: "anna" } });
    await client.ask("ping");
    expect(existsSync(join(cwd, "obeyed"))).toBeFalse();
  });

  test("sets its compiler to be patient, as the process that was started, and leaves what somebody has set", async () => {
    const name = "BUN_JSC_thresholdForFTLOptimizeAfterWarmUp";
    const environment = ({ pid }: Service) => readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    expect(environment(await start())).toContain(`${name}=1000000`);
    expect(environment(await start({ env: { [name]: "200000" } }))).toContain(`${name}=200000`);
  });

  test("[END3] has the console in it, files and socket", async () => {
    const service = await start({ settings: { OPERATIONS__LISTEN: "127.0.0.1:0" } });
    const url = String((await service.logged(({ msg }) => msg === "metrics and console")).url);
    const page = await (await fetch(url)).text();
    const files = [...page.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path!);
    const types = await Promise.all(files.map(async (path) => (await fetch(url + path)).headers.get("content-type")));
    expect(types.sort()).toEqual(["text/css; charset=utf-8", "text/javascript; charset=utf-8"]);
    const admin = await Client.connect(`${url.replace("http", "ws")}/ws`, {
      query: { user_id: "root", roles: "admin" },
    });
    expect((await admin.ask("admin.nodes")).nodes).toHaveLength(1);
    await admin.close();
  });

  test("[DRN] SIGTERM sends its clients away with 1012 and ends with 0", async () => {
    const service = await start();
    const client = await talk(service, "anna");
    service.signal("SIGTERM");
    expect((await client.next("draining")).payload.reconnect_after_ms).toBeNumber();
    expect(await client.closed).toMatchObject({ code: 1012 });
    expect(await service.exited).toBe(0);
  });

  test("[LOG1] [LOG6] what was acknowledged is there after kill -9 and a start", async () => {
    const kept = mkdtempSync(join(folder, "kept-"));
    mkdirSync(join(kept, "data"));
    const first = await start({ folder: kept });
    const anna = await talk(first, "anna");
    const acks = await Promise.all(
      Array.from({ length: 50 }, (_, at) =>
        anna.ask("message.send", { conversation_id: "c1", client_message_id: `m${at}`, content: `${at}` }),
      ),
    );
    await first.kill();
    const second = await start({ folder: kept });
    const ben = await Client.connect(second.url, { query: { user_id: "ben" } });
    const { topics } = await ben.ask("subscribe", { topics: ["conversation:c1"], since: "acked" });
    expect(topics[0].seq).toBe(acks.length);
    const ids = ben.all("message.new").map(({ id }) => id);
    expect(ids).toEqual(acks.map(({ message_id }) => message_id));
  });
});
