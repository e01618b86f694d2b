/** Proves with a real NOTIFY_SOCKET what the binary tells a service manager, and that systemd takes the unit that the project brings. */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { undoAfterEach } from "../support/after-each.ts";
import { findSystemdAnalyze } from "../support/needs.ts";
import { listenForNotices } from "../support/notify-socket.ts";
import { binaryFile, projectFolder } from "../support/program.ts";
import { startService } from "../support/service.ts";
import { until } from "../support/until.ts";

const { newFolder, stopped } = undoAfterEach();

async function listen(address: string) {
  return stopped(await listenForNotices(address));
}

async function start(env: Record<string, string>, words = ["serve"]) {
  return stopped(await startService({ isBinary: true, env, words }));
}

const isReady = ([line]: string[]) => line === "READY=1";
const isAlive = ([line]: string[]) => line === "WATCHDOG=1";
const isStopping = ([line]: string[]) => line === "STOPPING=1";

test("[OPS7] [DRN] it says that it is ready once it serves, that it is alive as often as asked, and that it stops", async () => {
  const address = join(newFolder(), "notify");
  const { told } = await listen(address);
  const { url, http, signal, exited } = await start({ NOTIFY_SOCKET: address, WATCHDOG_USEC: "100000" });
  await until(async () => told.some(isReady));
  expect(told[0]).toEqual(["READY=1", `STATUS=serves ${url}`]);
  expect((await fetch(`${http}/ready`)).status).toBe(200);
  await until(async () => told.filter(isAlive).length >= 3);
  signal("SIGTERM");
  expect(await exited).toBe(0);
  await until(async () => told.some(isStopping));
  expect(told.filter((notice) => !isAlive(notice))).toEqual([told[0]!, ["STOPPING=1", "STATUS=draining"]]);
});

test("[OPS7] a socket without a file does as well, and a watchdog that is another process's is left alone", async () => {
  const address = `@ws-service-${crypto.randomUUID()}`;
  const { told } = await listen(address);
  const { signal, exited } = await start({ NOTIFY_SOCKET: address, WATCHDOG_USEC: "2000", WATCHDOG_PID: "1" });
  signal("SIGTERM");
  expect(await exited).toBe(0);
  await until(async () => told.some(isStopping));
  expect(told.map(([line]) => line)).toEqual(["READY=1", "STOPPING=1"]);
});

test("[OPS7] of several processes the one that was started speaks, once all of them serve", async () => {
  const address = join(newFolder(), "notify");
  const { told } = await listen(address);
  const { port, signal, exited } = await start({ NOTIFY_SOCKET: address }, ["serve", "--workers", "1"]);
  await until(async () => told.some(isReady));
  signal("SIGTERM");
  expect(await exited).toBe(0);
  await until(async () => told.some(isStopping));
  expect(told).toEqual([
    ["READY=1", `STATUS=serves port ${port} by 1 workers`],
    ["STOPPING=1", "STATUS=draining 1 workers"],
  ]);
});

test("[OPS7] where nobody listens it says so once, and serves", async () => {
  const address = join(newFolder(), "nowhere");
  const { logged, http, signal, exited } = await start({ NOTIFY_SOCKET: address });
  expect(await logged(({ msg }) => msg === "the service manager is not told everything")).toMatchObject({ address });
  expect((await fetch(`${http}/ready`)).status).toBe(200);
  signal("SIGTERM");
  expect(await exited).toBe(0);
  const strange = await start({ NOTIFY_SOCKET: "vsock:2:1234" });
  await strange.logged(({ msg }) => msg === "the service manager cannot be told anything");
});

test("[OPS7] systemd takes the unit as it is, and finds little that the service could do to the machine", () => {
  const analyze = findSystemdAnalyze();
  const text = readFileSync(join(projectFolder, "configs/systemd/ws-service.service"), "utf8");
  const unit = join(newFolder(), "ws-service.service");
  // As it will be there once it is installed.
  writeFileSync(unit, text.replace("ExecStart=/usr/local/bin/ws-service ", `ExecStart=${binaryFile} `));
  const ask = (...words: string[]) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync([analyze, ...words, unit]);
    return { exitCode, said: `${stdout}${stderr}` };
  };
  expect(ask("verify", "--man=no")).toEqual({ exitCode: 0, said: "" });
  // Of 10, which is what a unit without any restriction has; times ten.
  const judged = ask("security", "--offline=yes", "--no-pager", "--threshold=20");
  expect(judged).toMatchObject({ exitCode: 0, said: expect.stringMatching(/Overall exposure level .*: \d\.\d OK/) });
});
