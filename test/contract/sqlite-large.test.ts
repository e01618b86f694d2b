/** Proves that what is changed beside a large message does not write its text anew [MSG3] [LIM]. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEngine } from "../../src/storage/sqlite/engine.ts";
import { message, reacted } from "./messages.ts";

test("[MSG3] [LIM] a reaction writes as little beside a message of megabytes as beside any other", () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-large-"));
  const path = join(folder, "large.db");
  const { operations, close } = openEngine({ path, durability: "process", busyTimeoutMs: 1_000 });
  try {
    operations.append([message("large", "x".repeat(4_000_000))]);
    using other = new Database(path);
    other.query("PRAGMA wal_checkpoint(TRUNCATE)").get();
    operations.append([reacted("large", ["bob", "👍", true])]);
    operations.append([reacted("large", ["bob", "👍", false])]);
    operations.append([reacted("large", ["cle", "🎉", true])]);
    expect(statSync(`${path}-wal`).size).toBeWithin(1, 300_000);
    const [shown] = operations.range({ topic: "conversation:c1", afterSeq: 0, throughSeq: 1, limit: 1 }).events;
    expect(JSON.parse(shown!.payload).reactions).toEqual([{ reaction: "🎉", count: 1, user_ids: ["cle"] }]);
  } finally {
    close();
    rmSync(folder, { recursive: true });
  }
});
