/** Proves what a heartbeat on Redis says when it fails in part: nothing of what is said already, and nothing while connections come back. */
import { expect, test } from "bun:test";
import { ReplyError } from "ioredis";
import { Heartbeat } from "../../src/cluster/redis/heartbeat.ts";
import { RedisUnavailable } from "../../src/cluster/redis/unavailable.ts";

const refused = () => new RedisUnavailable(new ReplyError("NOPERM no permissions to access a key"));
const notBack = () => new RedisUnavailable("no connection");

/** Beats when it is told to, each time with what is given to fail. */
function startHeartbeat() {
  const lines: string[] = [];
  const log = (_: object, line: string) => void lines.push(line);
  const commands = { isReady: true, noteServed() {}, onReady: (listener: () => void) => void (begin = listener) };
  let begin = () => {};
  let now = 0;
  let failures: Error[] = [];
  const heartbeat = new Heartbeat({
    commands,
    work: () => [Promise.resolve(), ...failures.map((failure) => Promise.reject(failure))],
    intervalMs: 3_600_000,
    now: () => now,
    logger: { info: log, warn: log, error: log } as never,
  });
  return {
    lines,
    commands,
    async beat(at: number, ...failing: Error[]) {
      now = at;
      failures = failing;
      heartbeat.start();
      begin();
      await heartbeat.stop();
    },
  };
}

test("[END2] what fails in part for two seconds is said once, and once that it is over", async () => {
  const { lines, beat } = startHeartbeat();
  for (const at of [0, 1_000, 2_000, 3_000]) await beat(at, notBack());
  await beat(4_000);
  expect(lines).toEqual(["a heartbeat on Redis failed in part", "heartbeats on Redis are whole again"]);
});

test("[END2] after a refusal, which is said elsewhere, the connections have their time to come back", async () => {
  const { lines, beat } = startHeartbeat();
  await beat(0, notBack(), refused());
  await beat(5_000, notBack(), refused());
  await beat(6_000, notBack());
  await beat(7_000, notBack());
  expect(lines).toEqual([]);
  await beat(8_000, notBack());
  expect(lines).toEqual(["a heartbeat on Redis failed in part"]);
});

test("[END2] after an outage, which is said elsewhere, the connections have their time to come back", async () => {
  const { lines, commands, beat } = startHeartbeat();
  await beat(0, notBack());
  commands.isReady = false;
  await beat(1_000);
  commands.isReady = true;
  await beat(9_000, notBack());
  await beat(10_000, notBack());
  expect(lines).toEqual([]);
});
