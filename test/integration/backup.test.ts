/** Proves that the SQLite file is copied while the service writes, and what clients are told once such a copy was put back. */
import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { undoAfterEach } from "../support/after-each.ts";
import { Client } from "../support/client.ts";
import { firstFile } from "../support/first-release.ts";
import { sendAll } from "../support/people.ts";
import { program } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
const { newFolder, stopped } = undoAfterEach();

const settings = { WEBSOCKET__CLEANUP_INTERVAL: "1h" };

async function start(folder?: string): Promise<Service> {
  return stopped(await startService(folder === undefined ? { settings } : { settings, folder }));
}

async function end(service: Service): Promise<void> {
  service.signal("SIGTERM");
  expect(await service.exited).toBe(0);
}

/** Runs a command in a folder whose `data/ws-service.db` is the storage, as it is where nothing is set. */
async function run(cwd: string, ...words: string[]) {
  const options = { cwd, env: {}, stdin: "ignore", stdout: "pipe", stderr: "pipe" } as const;
  const child = Bun.spawn([...program, ...words], options);
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

const connect = ({ url }: Service, device_id = "phone") =>
  Client.connect(url, { query: { user_id: "anna", device_id } });

function contentsOf(file: string): string[] {
  const database = new Database(file, { readonly: true });
  try {
    expect(database.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
    const rows = database.query<{ content: string }, []>(
      "SELECT payload ->> 'content' AS content FROM events WHERE type = 'message.new' ORDER BY position",
    );
    return rows.all().map(({ content }) => content);
  } finally {
    database.close();
  }
}

test("[OPS6] [OPS8] where secrets are credentials of the unit, commands that use none do without", async () => {
  const service = await start();
  const { port } = new URL(service.url);
  writeFileSync(
    join(service.folder, "config.yaml"),
    `server: { port: ${port} }
auth: { mode: token, secret_file: "\${CREDENTIALS_DIRECTORY}/auth-secret" }
directory: { mode: managed }
`,
  );
  const of = (...words: string[]) => run(service.folder, ...words, "--config", "config.yaml");
  for (const words of [["health"], ["admin", "nodes"], ["backup", "copy.db"], ["migrate"]])
    expect({ words, ...(await of(...words)) }).toMatchObject({ words, stderr: "", code: 0 });
  for (const words of [
    ["token", "--user", "anna"],
    ["config", "check"],
  ])
    expect((await of(...words)).stderr).toMatch(
      /auth\.secret_file: .* needs the environment variable CREDENTIALS_DIRECTORY/,
    );
});

test.skipIf(process.getuid?.() !== 0)(
  "[OPS8] [OPS5] root makes no file that the service could not open: neither beside one, nor in a folder of another user",
  async () => {
    const service = await start();
    expect(await run(service.folder, "backup", "copy.db")).toMatchObject({ stderr: "", code: 0 });
    await end(service);
    const folder = newFolder();
    const owner = 12_345;
    for (const place of ["data/ws-service.db", "data"]) {
      mkdirSync(join(folder, "data"), { recursive: true });
      if (place !== "data") writeFileSync(join(folder, place), "");
      chownSync(join(folder, place), owner, owner);
      const before = readdirSync(join(folder, "data"));
      for (const words of [["restore", join(service.folder, "copy.db")], ["migrate"]])
        expect({ words, ...(await run(folder, ...words)) }).toEqual({
          words,
          stdout: "",
          stderr: expect.stringContaining(`${place} belongs to the user ${owner}: do this as that user\n`),
          code: 1,
        });
      expect(readdirSync(join(folder, "data"))).toEqual(before);
      rmSync(join(folder, "data"), { recursive: true });
    }
  },
);

test("[OPS8] [LOG3] a copy that is made while messages are written has all that were acknowledged before, and no hole after", async () => {
  const service = await start();
  const anna = await connect(service);
  let sent = 0;
  const send = () =>
    anna.ask("message.send", { conversation_id: "c1", client_message_id: `${sent}`, content: `${sent++}` });
  for (let times = 0; times < 50; times++) await send();
  const acknowledged = sent;
  const made = run(service.folder, "backup", "copy.db");
  let isMade = false;
  void made.then(() => (isMade = true));
  while (!isMade) await send();
  const { code, stdout, stderr } = await made;
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const copy = join(service.folder, "copy.db");
  const contents = contentsOf(copy);
  expect(stdout).toMatch(
    /^sqlite:data\/ws-service\.db: backed up to copy\.db: \d+ bytes, schema version \d+, the log through position \d+\n$/,
  );
  expect(contents.length).toBeWithin(acknowledged, sent + 1);
  expect(sent).toBeGreaterThan(acknowledged);
  expect(contents).toEqual(contents.map((_, at) => `${at}`));
  // For its owner alone, and nothing is left beside it.
  expect(statSync(copy).mode & 0o777).toBe(0o600);
  expect(readdirSync(service.folder).filter((name) => name.startsWith("copy"))).toEqual(["copy.db"]);
  // The service has noticed nothing.
  await send();
});

test("[OPS8] a backup overwrites nothing, and leaves nothing where it fails", async () => {
  const folder = newFolder();
  const copyOf = async (file: string) => (await run(folder, "backup", file)).stderr;
  expect(await copyOf("a.db")).toBe("sqlite:data/ws-service.db: data/ws-service.db is not there\n");
  const { code } = await run(folder, "migrate");
  expect(code).toBe(0);
  writeFileSync(join(folder, "mine"), "kept");
  expect(await copyOf("mine")).toEndWith("mine is there already, and nothing is overwritten\n");
  expect(readFileSync(join(folder, "mine"), "utf8")).toBe("kept");
  expect(await copyOf("nowhere/a.db")).toContain("nowhere/a.db cannot be made: ENOENT");
  writeFileSync(join(folder, "b.db.partial"), "");
  expect(await copyOf("b.db")).toEndWith("b.db.partial is there already, and nothing is overwritten\n");
  expect(existsSync(join(folder, "b.db"))).toBeFalse();
  writeFileSync(join(folder, "data/ws-service.db"), "no database ".repeat(1_000));
  expect(await copyOf("a.db")).toContain("a.db cannot be made: file is not a database");
  expect(readdirSync(folder).sort()).toEqual(["b.db.partial", "data", "mine"]);
  expect(await run(folder, "backup")).toMatchObject({ code: 2 });
});

test("[OPS8] [LOG4] [LOG6] a copy that is put back is another epoch: who has seen more is told, and who has not goes on", async () => {
  let service = await start();
  const { folder } = service;
  let anna = await connect(service);
  await sendAll(anna, "c1", ["1", "2", "3"]);
  const before = (await anna.ask("ping")).cursor;
  expect(await run(folder, "backup", "copy.db")).toMatchObject({ code: 0 });
  await sendAll(anna, "c1", ["4", "5"]);
  const beyond = (await anna.ask("ping")).cursor;

  const refused = await run(folder, "restore", "copy.db");
  expect(refused).toMatchObject({ code: 1, stdout: "" });
  expect(refused.stderr).toContain("is in use by another service");
  await end(service);
  const restored = await run(folder, "restore", "copy.db");
  expect(restored).toMatchObject({ code: 0, stderr: "" });
  const [, kept] = /the former one is kept as (\S+)\n$/.exec(restored.stdout)!;
  expect(contentsOf(kept!)).toEqual(["1", "2", "3", "4", "5"]);
  expect(statSync(join(folder, "data/ws-service.db")).mode & 0o777).toBe(0o600);

  service = await start(folder);
  anna = await connect(service);
  await sendAll(anna, "c1", ["other 4", "other 5", "other 6"]);
  const resume = async (cursor: unknown) => {
    const client = await connect(service, "other");
    const { topics } = await client.ask("subscribe", { topics: ["conversation:c1"], since: { cursor } });
    return topics[0];
  };
  expect(await resume(before)).toMatchObject({ recovered: true, replayed: 3, seq: 6 });
  expect(await resume(beyond)).toMatchObject({ recovered: false, seq: 6 });
});

test("[OPS8] a killed service's file is set aside whole, and a fresh machine has a copy put in as well", async () => {
  let service = await start();
  const { folder } = service;
  await sendAll(await connect(service), "c1", ["1"]);
  expect(await run(folder, "backup", "copy.db")).toMatchObject({ code: 0 });
  await sendAll(await connect(service), "c1", ["2"]);
  await service.kill();
  const restored = await run(folder, "restore", "copy.db");
  expect(restored).toMatchObject({ code: 0, stderr: "" });
  const [, kept] = /the former one is kept as (\S+)\n$/.exec(restored.stdout)!;
  expect(contentsOf(kept!)).toEqual(["1", "2"]);
  expect(contentsOf(join(folder, "data/ws-service.db"))).toEqual(["1"]);

  const fresh = newFolder();
  const { stdout, code } = await run(fresh, "restore", join(folder, "copy.db"));
  expect([code, stdout]).toEqual([0, expect.stringMatching(/there was none before\n$/)]);
  service = await start(fresh);
  const { topics } = await (await connect(service)).ask("subscribe", { topics: ["conversation:c1"] });
  expect(topics[0]).toMatchObject({ seq: 1 });
});

test("[OPS8] a copy of the first release's file is one, which the next start brings up to date", async () => {
  const folder = newFolder();
  mkdirSync(join(folder, "data"));
  const old = new Database(join(folder, "data/ws-service.db"));
  old.exec(firstFile);
  old.close();
  expect(await run(folder, "backup", "copy.db")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("schema version 2,"),
  });
  await end(await start(folder));
  expect(await run(folder, "restore", "copy.db")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("schema version 2,"),
  });
  const service = await start(folder);
  await sendAll(await connect(service), "c1", ["1"]);
});

test("[OPS8] what is no copy, or a damaged one, is refused, and the file stays what it is", async () => {
  const folder = newFolder();
  expect(await run(folder, "migrate")).toMatchObject({ code: 0 });
  expect(await run(folder, "backup", "copy.db")).toMatchObject({ code: 0 });
  const former = readFileSync(join(folder, "data/ws-service.db"));
  const write = (name: string, contents: string | Buffer) => writeFileSync(join(folder, name), contents);
  const copy = readFileSync(join(folder, "copy.db"));
  write("text", "no database ".repeat(1_000));
  write("empty", "");
  write("damaged", Buffer.from(copy).fill(0xff, 4_096, 12_288));
  write("used.db", copy);
  write("used.db-wal", "");
  const newer = new Database(join(folder, "newer"));
  newer.exec("PRAGMA user_version = 1000");
  newer.close();
  expect(Bun.spawnSync(["mkfifo", join(folder, "pipe")]).exitCode).toBe(0);
  for (const [file, reason] of [
    ["nowhere", "nowhere is not there"],
    ["pipe", "pipe is no file"],
    ["data", "data is no file"],
    ["text", "text cannot be taken back: file is not a database"],
    ["empty", "empty cannot be taken back: it is no database of this service"],
    ["damaged", "damaged cannot be taken back: "],
    ["used.db", "used.db has a -wal beside it"],
    ["newer", "newer cannot be taken back: it has schema version 1000"],
    ["data/ws-service.db", "data/ws-service.db is the service's own file"],
  ]) {
    const { code, stderr } = await run(folder, "restore", file!);
    expect([code, stderr]).toEqual([1, expect.stringContaining(reason!)]);
  }
  expect(readFileSync(join(folder, "data/ws-service.db"))).toEqual(former);
  expect(readdirSync(join(folder, "data")).sort()).toEqual(["ws-service.db", "ws-service.db-lock"]);
  // Where none was before there is none after it.
  const fresh = newFolder();
  expect(await run(fresh, "restore", join(folder, "text"))).toMatchObject({ code: 1 });
  expect(existsSync(join(fresh, "data/ws-service.db"))).toBe(false);
  expect(await run(fresh, "restore", join(folder, "copy.db"))).toMatchObject({ code: 0 });
});

test("[OPS8] a damaged file is set aside with its log of writes, and PostgreSQL is left to its own programs", async () => {
  const folder = newFolder();
  mkdirSync(join(folder, "data"));
  expect(await run(folder, "migrate")).toMatchObject({ code: 0 });
  expect(await run(folder, "backup", "copy.db")).toMatchObject({ code: 0 });
  writeFileSync(join(folder, "data/ws-service.db"), "damaged ".repeat(1_000));
  writeFileSync(join(folder, "data/ws-service.db-wal"), "writes");
  expect(await run(folder, "restore", "copy.db")).toMatchObject({ code: 0 });
  const kept = readdirSync(join(folder, "data")).filter((name) => name.includes("-before-"));
  expect(kept.map((name) => name.replace(/.*-before-\w+/, "")).sort()).toEqual(["", "-wal"]);
  expect(contentsOf(join(folder, "data/ws-service.db"))).toEqual([]);
  const child = Bun.spawnSync([...program, "backup", "x"], {
    cwd: folder,
    env: { DATABASE_URL: "postgres://u:hunter2@h/d" },
  });
  expect(child.stderr.toString()).toBe("postgres://u:********@h/d: this is for SQLite; PostgreSQL has pg_dump\n");
});
