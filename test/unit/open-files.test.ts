/** Proves that figures of the process are there where it may open no more files. */
import { expect, test } from "bun:test";
import { join } from "node:path";

const ground = join(import.meta.dir, "../../src/ground");

test.skipIf(process.platform !== "linux")(
  "[ADM1] where no more files may be opened all that may be are told as open, and memory as it was",
  () => {
    const limit = 64;
    const script = `
    import { openSync } from "node:fs";
    import { residentBytes } from "${ground}/memory.ts";
    import { openFiles, openFilesMax } from "${ground}/open-files.ts";
    const before = [residentBytes(), openFilesMax(), openFiles()];
    try { for (;;) openSync("/dev/null", "r"); } catch {}
    console.log(JSON.stringify({ before, after: [residentBytes(), openFilesMax(), openFiles()] }));`;
    const command = ["sh", "-c", `ulimit -n ${limit}; exec "$@"`, "sh", process.execPath, "-e", script];
    const { before, after } = JSON.parse(Bun.spawnSync(command).stdout.toString());
    expect(before).toEqual([expect.any(Number), limit, expect.any(Number)]);
    expect(before[2]).toBeLessThan(limit);
    expect(after).toEqual([before[0], limit, limit]);
  },
);
