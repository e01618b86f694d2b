/** Proves whose turn it is on a stream, on one Redis and on a Redis Cluster [PUB2]. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Redis } from "ioredis";
import { parseRedisUrl } from "../../src/cluster/redis/address.ts";
import { openCommandClient } from "../../src/cluster/redis/connection.ts";
import { RedisStream } from "../../src/cluster/redis/stream.ts";
import { keys, silent } from "../support/cluster.ts";
import { fresh } from "../support/people.ts";
import { startRedis, startRedisCluster } from "../support/redis.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

const kinds = { "one Redis": startRedis, "a Redis Cluster": startRedisCluster };
const never = new AbortController().signal;

for (const [kind, start] of Object.entries(kinds)) {
  describe(kind, () => {
    let redis: { url: string; stop(): Promise<void> };
    let app: Redis;
    const open: RedisStream[] = [];

    beforeAll(async () => {
      redis = await start();
      // It has the same commands as one for a Redis Cluster.
      app = openCommandClient(parseRedisUrl(redis.url), { commandTimeoutMs: 5_000 }) as Redis;
      await app.connect();
    });
    afterEach(async () => void (await Promise.all(open.splice(0).map((inbox) => inbox.stop()))));
    afterAll(async () => {
      app?.disconnect();
      await redis?.stop();
    });

    async function reader(stream: string, turnMs = 60_000, group = "g"): Promise<RedisStream> {
      const options = { url: redis.url, keys, stream, group, turnMs, now: Date.now, logger: silent };
      const inbox = new RedisStream({ ...options, newId: () => fresh("reader") });
      await inbox.start();
      open.push(inbox);
      return inbox;
    }
    const add = async (stream: string, n: number) => (await app.xadd(stream, "*", "n", String(n)))!;
    const idsOf = async (inbox: RedisStream) => (await inbox.take())?.map(({ id }) => id) ?? null;
    const ids = (entries: { id: string }[] | null) => entries?.map(({ id }) => id) ?? null;

    test("[PUB2] one reader has the turn; what it has not removed comes again, before anything new", async () => {
      const stream = fresh("stream");
      const [first, second] = [await reader(stream), await reader(stream)];
      const added = [await add(stream, 1), await add(stream, 2)];
      const taken = await first.take();
      expect(taken).toMatchObject([{ fields: { n: "1" } }, { fields: { n: "2" } }]);
      expect(await idsOf(second)).toBeNull();
      added.push(await add(stream, 3));
      expect(ids(await first.take())).toEqual(added.slice(0, 2));
      // Handed over with what is under way.
      await first.stop();
      const again = await second.take();
      expect(again).toEqual(taken);
      await second.remove(added.slice(0, 2));
      expect(await idsOf(second)).toEqual(added.slice(2));
      expect(await second.lag()).toMatchObject({ entries: 1 });
      await second.remove([added[2]!]);
      expect(await idsOf(second)).toEqual([]);
      expect(await second.lag()).toEqual({ entries: 0, oldestMs: 0 });
    });

    test("[PUB2] two groups read all of a stream, and an entry goes once both have done with it", async () => {
      const stream = fresh("stream");
      const [one, other] = [await reader(stream), await reader(stream, 60_000, "h")];
      const added = [await add(stream, 1), await add(stream, 2)];
      expect([await idsOf(one), await idsOf(other)]).toEqual([added, added]);
      const left = async () => (await app.xrange(stream, "-", "+")).map(([id]) => id);
      await one.remove(added);
      expect(await left()).toEqual(added);
      expect(await one.lag()).toEqual({ entries: 0, oldestMs: 0 });
      expect(await other.lag()).toMatchObject({ entries: 2 });
      await other.remove([added[1]!]);
      expect(await left()).toEqual([added[0]!]);
      // Not read by the one yet, and done with by the other first.
      added.push(await add(stream, 3));
      await other.remove([added[0]!]);
      expect(await idsOf(other)).toEqual([added[2]!]);
      await other.remove([added[2]!]);
      expect(await left()).toEqual([added[2]!]);
      expect(await one.lag()).toMatchObject({ entries: 1 });
      expect(await idsOf(one)).toEqual([added[2]!]);
      await one.remove([added[2]!]);
      expect(await left()).toEqual([]);
    });

    test("[PUB2] what only a group kept that is gone is removed, and does not wait meanwhile", async () => {
      const stream = fresh("stream");
      await app.xgroup("CREATE", stream, "gone", "0", "MKSTREAM");
      await app.xgroup("CREATE", stream, "held", "0");
      const inbox = await reader(stream);
      const added: string[] = [];
      for (let n = 1; n <= 4; n++) added.push(await add(stream, n));
      await inbox.remove((await idsOf(inbox))!);
      const left = async () => (await app.xrange(stream, "-", "+")).map(([id]) => id);
      // One that has read a part of it, and has done with a part of that.
      await app.xreadgroup("GROUP", "held", "somebody", "COUNT", 3, "STREAMS", stream, ">");
      await app.xack(stream, "held", added[0]!, added[2]!);
      expect(await idsOf(inbox)).toEqual([]);
      expect(await left()).toEqual(added);
      await app.xgroup("DESTROY", stream, "gone");
      expect(await inbox.lag()).toEqual({ entries: 0, oldestMs: 0 });
      expect(await idsOf(inbox)).toEqual([]);
      expect(await left()).toEqual(added.slice(1));
      await app.xack(stream, "held", added[1]!);
      expect(await idsOf(inbox)).toEqual([]);
      expect(await left()).toEqual(added.slice(3));
      await app.xgroup("DESTROY", stream, "held");
      // The only group that is left, of a stream in which there is what it has done with.
      expect(await inbox.lag()).toEqual({ entries: 0, oldestMs: 0 });
      const next = await add(stream, 5);
      expect(await inbox.lag()).toMatchObject({ entries: 1 });
      expect(await idsOf(inbox)).toEqual([next]);
      expect(await inbox.lag()).toMatchObject({ entries: 1 });
      await inbox.remove([next]);
      expect(await idsOf(inbox)).toEqual([]);
      expect(await left()).toEqual([]);
    });

    test("[PUB2] [LOG3] a reader that was silent for too long loses the turn, and reads nothing new after that", async () => {
      const stream = fresh("{tagged}stream");
      const [silentOne, next] = [await reader(stream, 50), await reader(stream)];
      const added = await add(stream, 1);
      expect(await idsOf(silentOne)).toEqual([added]);
      let taken: string[] | null = null;
      await until(async () => (taken = await idsOf(next)) !== null);
      expect(taken).toEqual([added] as never);
      await next.remove([added]);
      await add(stream, 2);
      expect(await idsOf(silentOne)).toBeNull();
      // Removes what is done already, which it did not know.
      await silentOne.remove([added]);
      expect(await next.take()).toMatchObject([{ fields: { n: "2" } }]);
    });

    test("[PUB2] waiting ends with a new entry, and what is rejected is kept beside the stream", async () => {
      const stream = fresh("stream");
      const inbox = await reader(stream);
      expect(await idsOf(inbox)).toEqual([]);
      const waited = inbox.wait(never);
      const id = await add(stream, 1);
      await waited;
      const [entry] = (await inbox.take())!;
      await inbox.reject([{ entry: entry!, reason: "it is odd" }]);
      expect(await idsOf(inbox)).toEqual([]);
      expect(await app.xrange(`${stream}:rejected`, "-", "+")).toEqual([
        [expect.any(String), ["entry_id", id, "reason", "it is odd", "n", "1"]],
      ]);
    });

    test("[PUB2] a great many entries come in pages of bounded number and bytes", async () => {
      const stream = fresh("stream");
      const inbox = await reader(stream);
      for (let n = 0; n < 1_100; n++) void add(stream, n);
      await until(async () => (await app.xlen(stream)) === 1_100);
      const sizes: number[] = [];
      for (let page = await inbox.take(); page!.length > 0; page = await inbox.take()) {
        sizes.push(page!.length);
        await inbox.remove(page!.map(({ id }) => id));
      }
      expect(Math.max(...sizes)).toBeLessThanOrEqual(512);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(1_100);
      const large = "x".repeat(1 << 20);
      for (let n = 0; n < 40; n++) await app.xadd(stream, "*", "text", large);
      const page = await inbox.take();
      expect(page!.length).toBeLessThanOrEqual(16);
      expect(ids(await inbox.take())).toEqual(ids(page));
    });
  });
}
