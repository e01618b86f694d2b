/** Proves what becomes of the SQLite file: who may read it, a disk that is full, and pages that are damaged. */
import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { undoAfterEach } from "../support/after-each.ts";
import { Client } from "../support/client.ts";
import { program } from "../support/program.ts";
import { type Service, type ServiceOptions, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);
const { newFolder, stopped } = undoAfterEach();

async function start(options: ServiceOptions): Promise<Service> {
  return stopped(await startService(options));
}

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);
const ready = async (service: Service) => (await fetch(`${service.http}/ready`)).status;
const message = (id: string | number, content: string, conversation_id = "c1") => ({
  conversation_id,
  client_message_id: `${id}`,
  content,
});

test("[OPS5] nobody else of the machine may read what is stored, and a folder that was there is left as it is", async () => {
  const folder = newFolder();
  const [old, file] = [join(folder, "old"), join(folder, "old/ws.db")];
  mkdirSync(old);
  chmodSync(old, 0o755);
  for (const end of ["", "-lock"]) writeFileSync(file + end, "", { mode: 0o644 });
  const shell = ["sh", "-c", 'umask 022; exec "$@"', "sh", ...program];
  const settings = { STORAGE__URL: `sqlite:${file}` };
  const [made, found] = await Promise.all([start({ command: shell }), start({ command: shell, settings })]);
  for (const data of [join(made.folder, "data"), old]) {
    const files = readdirSync(data).map((name) => [name.replace(/^ws(-service)?\.db/, ""), modeOf(join(data, name))]);
    expect(Object.fromEntries(files)).toEqual({
      "": "600",
      "-lock": "600",
      "-reserve": "600",
      "-shm": "600",
      "-wal": "600",
    });
  }
  expect([modeOf(join(made.folder, "data")), modeOf(old)]).toEqual(["700", "755"]);
  const warned = ({ msg }: { msg: string }) => msg.startsWith("others of this machine may look into the folder");
  expect(await found.logged(warned)).toMatchObject({ level: "warn", folder: old });
  expect(made.logs.filter(warned)).toEqual([]);
});

test("[LOG7] the room for retention is held soon after a start, whether anybody writes or not", async () => {
  const service = await start({});
  const reserve = join(service.folder, "data/ws-service.db-reserve");
  const mebibytes = () => Promise.resolve(statSync(reserve).size / 1024 ** 2);
  expect(await eventually(mebibytes, (size) => size === 12)).toBe(12);
});

/** A small file system of its own, which nobody else sees; where that may not be made the test cannot be run. */
const inSmallDisk = (folder: string) => [
  ...["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"],
  `mount -t tmpfs -o size=6m tmpfs ${folder} && exec "$@"`,
  "sh",
];
const canHaveDisk = Bun.which("unshare") !== null && Bun.spawnSync([...inSmallDisk(tmpdir()), "true"]).success;

test.skipIf(!canHaveDisk)("[END2] [LOG7] a full disk is told, and retention makes room on it by itself", async () => {
  const folder = newFolder();
  const disk = join(folder, "disk");
  mkdirSync(disk);
  const service = await start({
    command: [...inSmallDisk(disk), ...program],
    settings: {
      STORAGE__URL: `sqlite:${disk}/ws.db`,
      LOG__EVENTS_PER_TOPIC: "20",
      WEBSOCKET__CLEANUP_INTERVAL: "2s",
    },
  });
  const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
  const content = "x".repeat(60_000);
  let sent = 0;
  let refused: { payload: object } | null = null;
  while (refused === null) {
    const reply = await ben.request("message.send", message(sent, content));
    if (reply.type === "error") refused = reply;
    else sent++;
  }
  expect(refused.payload).toMatchObject({ code: "unavailable" });
  const line = await service.logged(({ msg }) => msg === "the storage refuses writes");
  expect(JSON.stringify(line.err)).toContain("database or disk is full");
  // A message that is there can be read meanwhile.
  expect((await ben.ask("history", { topic: "conversation:c1", limit: 1 })).events).toHaveLength(1);

  await eventually(
    () => ben.request("message.send", message(sent, content)),
    ({ type }) => type === "ack",
  );
  await service.logged(({ msg }) => msg === "the storage takes writes again");
  expect(await ready(service)).toBe(200);
  // It goes on like that.
  for (let more = 1; more <= 60; more++) {
    await eventually(
      () => ben.request("message.send", message(sent + more, content)),
      ({ type }) => type === "ack",
    );
  }
  await ben.close();
  service.signal("SIGTERM");
  expect(await service.exited).toBe(0);
});

test.skipIf(!canHaveDisk)(
  "[END2] while others fill the disk /ready is never 200 but where the next message is taken",
  async () => {
    const folder = newFolder();
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const service = await start({
      command: [...inSmallDisk(disk), ...program],
      settings: { STORAGE__URL: `sqlite:${disk}/ws.db`, WEBSOCKET__CLEANUP_INTERVAL: "1s" },
    });
    const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
    let sent = 0;
    const send = async () => (await ben.request("message.send", message(sent++, "x".repeat(1_000)))).type;
    for (let n = 0; n < 20; n++) expect(await send()).toBe("ack");
    expect(await ready(service)).toBe(200);
    // Its disk, seen from outside.
    const others = join(`/proc/${service.pid}/root`, disk, "others");
    fillDisk(others);
    await eventually(send, (type) => type === "error");
    const wrong: string[] = [];
    let refused = 0;
    while (refused < 300) {
      if ((await send()) === "ack") continue;
      refused++;
      if ((await ready(service)) === 200 && (await send()) !== "ack") wrong.push(`after ${refused}`);
    }
    expect(wrong).toEqual([]);
    rmSync(others);
    await eventually(send, (type) => type === "ack");
    await eventually(
      () => ready(service),
      (status) => status === 200,
    );
    await ben.close();
    service.signal("SIGTERM");
    expect(await service.exited).toBe(0);
  },
);

/** Writes until nothing more goes in. */
function fillDisk(path: string): void {
  const file = openSync(path, "w");
  try {
    for (const bytes of [64 * 1_024, 4_096]) {
      try {
        while (writeSync(file, crypto.getRandomValues(Buffer.alloc(bytes))) > 0);
      } catch {}
    }
  } finally {
    closeSync(file);
  }
}

/** Damages every third page of those behind what tells of the tables, where that leaves the end of the log: without it nothing begins. */
function damage(path: string): void {
  const whole = readFileSync(path);
  const isEndLeft = [80, 81, 82].some((first) => {
    const damaged = Buffer.from(whole);
    for (let page = first; (page + 1) * 4096 <= damaged.length; page += 3)
      crypto.getRandomValues(damaged.subarray(page * 4096, (page + 1) * 4096));
    writeFileSync(path, damaged);
    return tellsItsEnd(path);
  });
  expect(isEndLeft).toBe(true);
}

function tellsItsEnd(path: string): boolean {
  using database = new Database(path);
  try {
    return database.query("SELECT position FROM log_end").get() !== null;
  } catch {
    return false;
  }
}

test("[END2] a damaged page is told in the engine's words, and the node is not ready and does not crash", async () => {
  const first = await startService();
  const anna = await Client.connect(first.url, { query: { user_id: "anna" } });
  for (let n = 0; n < 60; n++) await anna.ask("message.send", message(n, "x".repeat(8_000), `c${n % 5}`));
  first.signal("SIGTERM");
  await first.exited;
  damage(join(first.folder, "data/ws-service.db"));

  const service = await start({ folder: first.folder });
  const ben = await Client.connect(service.url, { query: { user_id: "anna" } });
  const pages = await Promise.all(
    Array.from({ length: 5 }, (_, n) => ben.request("history", { topic: `conversation:c${n}`, limit: 100 })),
  );
  expect(pages.filter(({ payload }) => payload.code === "unavailable")).not.toEqual([]);
  const line = await service.logged(({ msg }) => msg === "the storage refuses writes");
  expect(JSON.stringify(line.err)).toContain("database disk image is malformed");
  expect(await ready(service)).toBe(503);
  // Nothing is added to it any more, whichever page it would go to.
  for (let n = 0; n < 5; n++) {
    const reply = await ben.request("message.send", message(`new-${n}`, "hello", `c${n}`));
    expect(reply.payload).toMatchObject({ code: "unavailable" });
  }
  service.signal("SIGTERM");
  expect(await service.exited).toBe(0);
  expect(service.logs.filter(({ msg }) => /^the storage (refuses|takes) writes/.test(msg))).toHaveLength(1);
});

test("[END2] a file that is no database keeps the service from starting, in one sentence", async () => {
  const folder = newFolder();
  mkdirSync(join(folder, "data"));
  writeFileSync(join(folder, "data/ws-service.db"), crypto.getRandomValues(Buffer.alloc(20_000)));
  const error = await startService({ folder }).catch((it: unknown) => String(it));
  expect(error).toContain(
    "storage.url: sqlite:data/ws-service.db cannot be used: The database cannot be opened: file is not a database.",
  );
});

test("[END2] another program's database keeps the service from starting, and stays as it is", async () => {
  const folder = newFolder();
  mkdirSync(join(folder, "data"));
  const path = join(folder, "data/ws-service.db");
  const theirs = new Database(path);
  theirs.exec("CREATE TABLE orders (id INTEGER PRIMARY KEY)");
  theirs.close();
  const before = readFileSync(path);
  const error = await startService({ folder }).catch((it: unknown) => String(it));
  expect(error).toContain(
    "cannot be used: The database cannot be opened: it has tables, and none of this service's: it is another program's.",
  );
  expect(readFileSync(path).equals(before)).toBe(true);
});
