/** Proves that nothing of deleted texts is left in a SQLite file that is cleaned, whatever was written between [MSG2]. */

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Engine, openEngine } from "../../src/storage/sqlite/engine.ts";
import { deleted, edited, message, reacted } from "../contract/messages.ts";

setDefaultTimeout(60_000);

const seed = Number(Bun.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
let folder: string;
beforeAll(() => {
  console.log(`TEST_SEED=${seed}`);
  folder = mkdtempSync(join(tmpdir(), "ws-traces-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function randomOf(start: number): (below: number) => number {
  let state = start % 2 ** 31;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}

/** All that begins as the texts of messages here do. */
const textsIn = (path: string) => readFileSync(path, "latin1").match(/said-\d+-/g) ?? [];

/** Writes as a busy conversation does: messages of all sizes that grow and shrink, reactions, and retention. */
function write(engine: Engine, random: (below: number) => number, prefix = "m"): string[] {
  const ids: string[] = [];
  let said = 0;
  const text = () => `said-${++said}-${"x".repeat([20, 200, 2_000, 9_000][random(4)]! * random(2))}`;
  for (let step = 0; step < 1_200; step++) {
    const chosen = ids[random(ids.length)] ?? "none";
    const kind = random(10);
    if (kind < 5) {
      const id = `${prefix}${step}`;
      ids.push(id);
      engine.operations.append([message(id, text())]);
    } else if (kind < 8) engine.operations.append([edited(chosen, text())]);
    else if (kind < 9) engine.operations.append([reacted(chosen, [`u${random(9)}`, `r${random(9)}`, true])]);
    else engine.operations.append([deleted(chosen)]);
  }
  return ids;
}

function cleanAll({ operations }: Engine): void {
  const owed = operations.uncleaned();
  if (owed === null) return;
  for (let from: number | null = 0; from !== null; ) from = operations.clean(from);
  operations.cleaned(owed);
}

test("[MSG2] once all messages are deleted and the file is cleaned none of their texts is in it", () => {
  const path = join(folder, "all.db");
  const engine = openEngine({ path, durability: "process", busyTimeoutMs: 1_000 });
  for (let round = 0; round < 3; round++) {
    const ids = write(engine, randomOf(seed + round), `r${round}-`);
    for (const id of ids) engine.operations.append([deleted(id)]);
    expect(engine.operations.uncleaned()).not.toBe(null);
    cleanAll(engine);
    expect(engine.operations.uncleaned()).toBe(null);
    expect(textsIn(path)).toEqual([]);
    expect(readFileSync(`${path}-wal`, "latin1")).not.toContain("said-");
  }
  engine.close();
  using database = new Database(path);
  expect(database.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
});

test("[MSG2] while somebody reads from before, or writes, cleaning waits, and what is there stays as it is", () => {
  const path = join(folder, "busy.db");
  const engine = openEngine({ path, durability: "process", busyTimeoutMs: 1_000 });
  const ids = write(engine, randomOf(seed));
  using reader = new Database(path);
  reader.exec("BEGIN");
  const before = reader.query("SELECT count(*) AS count, sum(length(payload)) AS characters FROM events").get();
  for (const id of ids) engine.operations.append([deleted(id)]);
  expect(engine.operations.clean(0)).toBe(0);
  expect(reader.query("SELECT count(*) AS count, sum(length(payload)) AS characters FROM events").get()).toEqual(
    before,
  );
  reader.exec("COMMIT");
  using writer = new Database(path);
  writer.exec("BEGIN IMMEDIATE");
  expect(engine.operations.clean(0)).toBe(0);
  writer.exec("ROLLBACK");
  cleanAll(engine);
  expect(textsIn(path)).toEqual([]);
  expect(reader.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
  expect(engine.operations.append([message("next", "text")]).appended).toMatchObject([{ duplicate: false }]);
  engine.close();
});
