/** Runs the suite of the client's stores in memory and on a real disk, and kills a process that writes. */
import { afterAll, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { FileStore } from "../../src/client/stores/file.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { storeCases } from "./client-store.ts";

const folder = mkdtempSync(join(tmpdir(), "ws-client-stores-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const freshPath = () => join(folder, `${++files}`, "kept.jsonl");

for (const { title, run, outlives } of storeCases) {
  if (!outlives) test(`memory: ${title}`, () => run(() => new MemoryStore()));
  test(`file: ${title}`, async () => {
    const path = freshPath();
    await run(() => new FileStore(path));
  });
}

test("file: what a crash has cut short is not there, all before it is, and it goes on behind it", async () => {
  const path = freshPath();
  const store = new FileStore(path);
  await store.write([["a", 1]]);
  const whole = statSync(path).size;
  await store.write([
    ["a", 2],
    ["b", 2],
  ]);
  for (let bytes = statSync(path).size - 1; bytes >= whole; bytes--) {
    truncateSync(path, bytes);
    expect(await new FileStore(path).read("")).toEqual([["a", 1]]);
  }
  appendFileSync(path, '[["a",7],["b');
  const after = new FileStore(path);
  await after.write([["c", 3]]);
  expect(await new FileStore(path).read("")).toEqual([
    ["a", 1],
    ["c", 3],
  ]);
});

test("file: the past is written away, so that it stays as large as what is kept", async () => {
  const path = freshPath();
  const store = new FileStore(path);
  const text = "x".repeat(20_000);
  for (let n = 0; n < 100; n++) await store.write([["only", `${n}${text}`]]);
  expect(statSync(path).size).toBeLessThan(300_000);
  expect(await new FileStore(path).read("")).toEqual([["only", `99${text}`]]);
  expect(readFileSync(path, "utf8").endsWith("\n")).toBe(true);
});

test("file: a process that is killed between writes has what it was told is kept, and no half of a write", async () => {
  const path = freshPath();
  const module = JSON.stringify(resolve(import.meta.dir, "../../src/client/stores/file.ts"));
  // Large enough that it is written anew now and then.
  const writer = `
    const { FileStore } = await import(${module});
    const store = new FileStore(${JSON.stringify(path)});
    const text = "x".repeat(9000);
    const [[, begun] = ["", 0]] = await store.read("a");
    for (let n = begun + 1; ; n++) {
      await store.write([["a", n], ["b", n], ["c", text]]);
      console.log(n);
    }`;
  let told = 0;
  for (let round = 0; round < 8; round++) {
    const child = Bun.spawn([process.execPath, "-e", writer], { stdout: "pipe", stderr: "inherit" });
    const until = told + 7 + 9 * round;
    let text = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const last = text.split("\n").at(-2);
      if (last !== undefined) told = Number(last);
      if (told >= until) child.kill("SIGKILL");
    }
    await child.exited;
    const kept = await new FileStore(path).read("");
    const [[, a], [, b]] = kept as [[string, number], [string, number]];
    expect(b).toBe(a);
    expect(a).toBeGreaterThanOrEqual(told);
    told = a;
  }
});
