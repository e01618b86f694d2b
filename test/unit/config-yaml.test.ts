/** Proves that a file that is not YAML is told with the line to look at, and that a key that stands twice is a fault, and nothing else. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/loader.ts";
import { faultyFrom, repeatedKeys } from "../../src/config/yaml.ts";

const found = (text: string) => repeatedKeys(text).map(({ path, lines }) => `${path.join(".")} ${lines.join(" ")}`);

test.each([
  ["server:\n  port: 1\n  port: 2\n", ["server.port 2 3"]],
  ["server:\r\n  port: 1\r\n  port: 2\r\n", ["server.port 2 3"]],
  ["server:\n  port: 1\nlog:\n  level: info\nserver:\n  host: h\n", ["server 1 5"]],
  ["server: { port: 1, host: h, port: 2 }", ["server.port 1"]],
  ['{"a":1,\n"a":2}', ["a 1 2"]],
  ["'a': 1\n\"a\" : 2\na : 3\n", ["a 1 2 3"]],
  ["nat_map:\n  10.0.0.1:6379: a:1\n  10.0.0.1:6379: b:1\n", ["nat_map.10.0.0.1:6379 2 3"]],
  ["list: [ { b: 1 }, { b: 2, b: 3 } ]", ["list.1.b 1"]],
  ["call.ice: 1 # call.ice: 2\n# call.ice: 3\n  # a: 1\ncall.ice: 4", ["call.ice 1 4"]],
])("%j has a key twice", (text, expected) => {
  expect(found(text)).toEqual(expected);
});

test.each([
  "a: { burst: 1 }\nb: { burst: 1 }\nc:\n  burst: 1\n",
  "a: |\n  x: 1\n  x: 2\nb: 'y: 1, y: 2'\nc: \"z: 1\n  z: 2\"\n",
  "url: redis://h:1\nother: http://h:2/url: 3\n# url: 1\n",
  "a: 1 # a: 2\nb: [ { a: 1 }, { a: 2 } ]\n",
  "a: &a { b: 1 }\nb: *a\nc: { <<: *a, b: 2 }\n",
  "- a\n- a\n",
  "a",
  "",
])("%j has none", (text) => {
  expect(found(text)).toEqual([]);
});

test("the files of the project have none", async () => {
  for (const name of ["config", "production", "compose"])
    expect(found(await Bun.file(join(import.meta.dir, `../../configs/${name}.yaml`)).text())).toEqual([]);
});

test("it is told as a fault of the configuration, without its values", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-yaml-"));
  const file = join(folder, "twice.yaml");
  await Bun.write(file, `auth:\n  secret: ${"hunter2".repeat(6)}\n  secret: ${"hunter3".repeat(6)}\n`);
  await expect(loadConfig({ file, env: {}, cwd: folder })).rejects.toThrow(
    `the configuration has a fault:\n  auth.secret stands more than once, in lines 2 and 3 (${file})`,
  );
  rmSync(folder, { recursive: true });
});

test.each([
  ["server:\n  port: 1\n port: 2\nlog:\n  level: info\n", 3],
  ["server:\n  port: 1\nlog: 'info\nauth:\n  mode: token\n", 3],
  ["server:\n\tport: 1\n", 2],
  ["server: { port: 1,\n  host: h,\n  tls: null ] }\n", 1],
  ["a: [1\nb: : :", 1],
])("%j breaks in line %d or below", (text, line) => {
  expect(() => Bun.YAML.parse(text)).toThrow();
  expect(faultyFrom(text)).toBe(line);
});

test("a text that is too long to search has no line", () => {
  expect(faultyFrom(`${"# a comment\n".repeat(3_000)}a: [`)).toBeNull();
});
