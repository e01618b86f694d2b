/** How `cluster.url` is read, and how users and topics fall into buckets. */
import { expect, test } from "bun:test";
import { parseRedisUrl, reached } from "../../src/cluster/redis/address.ts";
import { bucketOfChannel, buckets, createKeys, slotOf } from "../../src/cluster/redis/keys.ts";

const open = { username: undefined, password: undefined, tls: null, natMap: new Map() };

test("[END2] one server, with and without TLS, credentials and a database", () => {
  expect(parseRedisUrl("redis://h")).toEqual({
    ...open,
    kind: "single",
    endpoint: { host: "h", port: 6379 },
    database: 0,
  });
  expect(parseRedisUrl("rediss://us%40er:p%3Ass@h:6380/2")).toEqual({
    ...open,
    kind: "single",
    username: "us@er",
    password: "p:ss",
    tls: {},
    endpoint: { host: "h", port: 6380 },
    database: 2,
  });
  expect(parseRedisUrl("redis://:secret@[::1]:1")).toMatchObject({
    username: undefined,
    password: "secret",
    endpoint: { host: "::1", port: 1 },
  });
});

test("[END2] Sentinels and the master they know", () => {
  expect(parseRedisUrl("redis+sentinel://:pw@a:1,b/main/3?tls=true&sentinel_password=s")).toEqual({
    ...open,
    kind: "sentinel",
    username: undefined,
    password: "pw",
    tls: {},
    sentinels: [
      { host: "a", port: 1 },
      { host: "b", port: 26379 },
    ],
    masterName: "main",
    sentinelPassword: "s",
    database: 3,
  });
});

test("[END2] a Redis Cluster by some of its nodes", () => {
  expect(parseRedisUrl("redis+cluster://a:1,b:2")).toEqual({
    ...open,
    kind: "cluster",
    endpoints: [
      { host: "a", port: 1 },
      { host: "b", port: 2 },
    ],
  });
});

test("[END2] where servers are reached that announce another address", () => {
  const { natMap } = parseRedisUrl("redis+cluster://a:1", {
    natMap: { "10.0.0.1:1": "h:2", "[fd00::1]:1": "[::1]:3" },
  });
  expect(reached({ host: "10.0.0.1", port: 1 }, natMap)).toEqual({ host: "h", port: 2 });
  expect(reached({ host: "fd00::1", port: 1 }, natMap)).toEqual({ host: "::1", port: 3 });
  expect(reached({ host: "10.0.0.1", port: 9 }, natMap)).toEqual({ host: "10.0.0.1", port: 9 });
  expect(() => parseRedisUrl("redis+cluster://a:1", { natMap: { a: "b:0" } })).toThrow(/^cluster\.nat_map: /);
});

test.each([
  "http://h",
  "redis://",
  "redis://a,b",
  "redis://h:0",
  "redis://h:99999",
  "redis://h/x",
  "redis+sentinel://h:1",
  "redis+cluster://h/1",
])("[END2] %s is refused without showing what it holds", (url) => {
  expect(() => parseRedisUrl(url.replace("//", "//user:secret@"))).toThrow(/^cluster\.url: (?!.*secret)/);
});

const keys = createKeys("0123456789abcdef");

test("[SUB1] a channel carries its bucket, whatever the topic is called", () => {
  for (const topic of ["conversation:c1", "user:{7}", "typing:}{", "everyone"]) {
    const channel = keys.topicChannel(topic);
    expect(buckets).toContain(bucketOfChannel(channel));
    expect(channel.endsWith(`:topic:${topic}`)).toBe(true);
  }
  expect(bucketOfChannel(keys.controlChannel)).toBe(0);
});

test("[END2] slots are those of a Redis Cluster", () => {
  // As `CLUSTER KEYSLOT` answers.
  expect([0, 1, 42, 63].map(slotOf)).toEqual([13907, 9842, 8000, 10499]);
});
