/** Proves that what the tests lack is installed as root only after a yes, or in CI; everywhere else the command is told. */
import { afterAll, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folder = mkdtempSync(join(tmpdir(), "ws-needs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Hold what the package would bring, and what was asked of apt-get, which is a stand-in: nothing is installed. */
const wanted = join(folder, "wanted");
const asked = join(folder, "asked");
for (const [name, script] of [
  [
    "apt-get",
    `echo "$@" >> ${asked}; if [ "$1" = install ]; then for file in ${wanted} ${wanted}-too; do printf '#!/bin/sh\\n' > $file; chmod +x $file; done; fi`,
  ],
  ["sudo", 'if [ "$1" = -n ]; then shift; fi; exec "$@"'],
] as const) {
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, name), 0o755);
}

const program = `
  import { debianProgram } from ${JSON.stringify(join(import.meta.dir, "../support/debian.ts"))};
  try {
    console.log("found", debianProgram("wanted", { package: "wanted-server", otherwise: "set WANTED" }));
  } catch (error) {
    console.log(error.message);
  }`;
const several = `
  import { debianProgram, installTogether } from ${JSON.stringify(join(import.meta.dir, "../support/debian.ts"))};
  const names = ["wanted", "sh", "wanted-too", "wanted-not"];
  installTogether(names.map((name) => () => debianProgram(name, { package: name })));`;
const env = (more: object) => ({ PATH: `${folder}:/usr/bin:/bin`, ...more });
const command = [process.execPath, "-e", program];
const installed = () => existsSync(wanted);
const told =
  "These tests need Debian's wanted-server: apt-get update; apt-get install -y -qq --no-install-recommends wanted-server (as root), or set WANTED.";

async function withoutTerminal(more: object, words = command): Promise<string> {
  const child = Bun.spawn(words, { env: env(more), stdin: "ignore", stdout: "pipe" });
  return child.stdout.text();
}

async function onTerminal(answer: string): Promise<string> {
  let text = "";
  const child = Bun.spawn(command, {
    env: env({}),
    terminal: {
      data(terminal, bytes) {
        text += new TextDecoder().decode(bytes);
        if (text.endsWith("[y/N] ")) terminal.write(`${answer}\n`);
      },
    },
  });
  await child.exited;
  child.terminal!.close();
  return text;
}

test("without a terminal nothing is installed, and the command is told", async () => {
  expect((await withoutTerminal({})).trim()).toBe(told);
  expect(installed()).toBe(false);
});

test("on a terminal it is asked for, and a no is a no", async () => {
  const text = await onTerminal("n");
  expect(text).toContain("Install it, and what else they lack, as root with apt-get? [y/N]");
  expect(text).toContain(told);
  expect(installed()).toBe(false);
});

test("after a yes it is there", async () => {
  expect(await onTerminal("y")).toContain(`found ${wanted}`);
  rmSync(wanted);
});

test("in CI it is installed at once", async () => {
  rmSync(asked, { force: true });
  expect(await withoutTerminal({ CI: "true" })).toContain(`found ${wanted}`);
  expect(readFileSync(asked, "utf8")).toBe("update -qq\ninstall -y -qq --no-install-recommends wanted-server\n");
});

test("in CI several are installed in one go, and what that did not bring by itself", async () => {
  for (const file of [asked, wanted, `${wanted}-too`]) rmSync(file, { force: true });
  await withoutTerminal({ CI: "true" }, [process.execPath, "-e", several]);
  const install = "install -y -qq --no-install-recommends";
  expect(readFileSync(asked, "utf8")).toBe(
    `update -qq\n${install} wanted wanted-too wanted-not\n${install} wanted-not\n`,
  );
});

test("without a terminal nothing of several is installed", async () => {
  for (const file of [asked, wanted, `${wanted}-too`]) rmSync(file, { force: true });
  await withoutTerminal({}, [process.execPath, "-e", several]);
  expect([existsSync(asked), installed()]).toEqual([false, false]);
});
