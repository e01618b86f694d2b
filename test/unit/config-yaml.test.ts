/** Proves that a file that is not YAML is told with the lines to look at, and that a key that stands twice is a fault. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/loader.ts";
import { parseYaml } from "../../src/config/yaml.ts";

test.each([
  ["server:\n  port: 1\n  port: 2\n", 3, "duplicate key"],
  ["server:\r\n  port: 1\r\n  port: 2\r\n", 3, "duplicate key"],
  ["server:\n  port: 1\nlog:\n  level: info\nserver:\n  host: h\n", 5, "duplicate key"],
  ["server: { port: 1, host: h, port: 2 }", 1, "duplicate key"],
  ["'a': 1\n\"a\" : 2\n", 2, "duplicate key"],
  ["nat_map:\n  10.0.0.1:6379: a:1\n  10.0.0.1:6379: b:1\n", 3, "duplicate key"],
  ["server:\n  port: 1\n port: 2\nlog:\n  level: info\n", 3, "bad indent"],
  ["server:\n\tport: 1\n", 2, "tab as indent"],
  ["a: 1\n---\nb: 2\n", 2, "multiple docs"],
  ["a: !!secret b\n", 1, "tag resolve failed"],
])("%j is at fault in line %d: %s", async (text, line, reason) => {
  expect(await parseYaml(text)).toMatchObject({ faults: [{ line, reason }] });
});

test.each([
  ["a: { burst: 1 }\nb: { burst: 1 }\n", { a: { burst: 1 }, b: { burst: 1 } }],
  ["a: |\n  x: 1\n  x: 2\nb: 'y: 1, y: 2'\n", { a: "x: 1\nx: 2\n", b: "y: 1, y: 2" }],
  ["url: redis://h:1\n# url: 1\n", { url: "redis://h:1" }],
  ["a: &a { b: 1 }\nc: { <<: *a, b: 2 }\n", { a: { b: 1 }, c: { b: 2 } }],
  ["- a\n- a\n", ["a", "a"]],
  ["", null],
])("%j is sound", async (text, value) => {
  expect(await parseYaml(text)).toEqual({ value });
});

test("aliases are bounded, and need an anchor", async () => {
  const laughs = `a: &a [${"x,".repeat(100)}]\nb: &b [${"*a,".repeat(100)}]\nc: [${"*b,".repeat(100)}]\n`;
  for (const text of ["a: *nowhere\n", laughs]) expect(await parseYaml(text)).toHaveProperty("faults");
});

test("it is told as a fault of the configuration, without its values", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-yaml-"));
  const file = join(folder, "twice.yaml");
  await Bun.write(file, `auth:\n  secret: ${"hunter2".repeat(6)}\n  secret: ${"hunter3".repeat(6)}\n`);
  const told = await loadConfig({ file, env: {}, cwd: folder }).catch((error: Error) => error.message);
  expect(told).toContain(`${file} is not YAML in line 3: duplicate key`);
  expect(told).not.toContain("hunter");
  rmSync(folder, { recursive: true });
});
