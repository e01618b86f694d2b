/** Says what every presence registry must do, whichever way it keeps its records [PRE1]. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { PresenceRecord, PresenceRegistry, PresenceWord, VersionedRecord } from "../../src/cluster/ports.ts";
import { add, deviceAt, idsOf, readOne, remove, say, saying } from "../support/records.ts";

/** The registry as one node sees it. */
export interface OpenedNode {
  registry: PresenceRegistry;
  /** Resolves once the node hears words on the topic. */
  watch(topic: string): Promise<void>;
}

export interface OpenedPresenceRegistry {
  /** As two nodes see it; a node that is alone gives itself twice. */
  nodes: { one: OpenedNode; other: OpenedNode };
  close(): Promise<void>;
}

export function describePresenceRegistryContract(name: string, open: () => Promise<OpenedPresenceRegistry>): void {
  describe(`presence registry: ${name}`, () => {
    let opened: OpenedPresenceRegistry;
    let one: PresenceRegistry;
    let other: PresenceRegistry;
    beforeEach(async () => {
      opened = await open();
      one = opened.nodes.one.registry;
      other = opened.nodes.other.registry;
    });
    afterEach(() => opened.close());

    const read = async (registry: PresenceRegistry, userId: string) => (await readOne(registry, userId))!;

    test("[PRE1] what one node writes the other reads, whole, under one mark, and versions grow", async () => {
      const before = await read(other, "u1");
      expect(before).toEqual({ mark: expect.any(String), version: 0, record: null });
      const record: PresenceRecord = {
        devices: [
          { ...deviceAt(one, "a"), status: "away", leaving: { since: 5, until: 10_005 } },
          { ...deviceAt(other, "b:é\"'\\"), status: "busy" },
        ],
        byHand: { status: "invisible", text: 'a "text" ✓ \\ ', emoji: "🦊", expiresAt: 1_767_323_999_999 },
        lastSeenAt: 1_767_323_045_001,
      };
      const written = await one.transact("u1", () => ({ put: record, result: "told" }));
      expect(written).toEqual({ now: { mark: before.mark, version: expect.any(Number), record }, result: "told" });
      expect(written.now.version).toBeGreaterThan(0);
      expect(await read(other, "u1")).toEqual(written.now);
      const { now } = await say(other, "u1", "next");
      expect(now.version).toBeGreaterThan(written.now.version);
      expect(await read(one, "u1")).toEqual(now);
      expect((await read(one, "u2")).record).toBeNull();
    });

    test("[PRE1] steps of all nodes on one record run alone: no change is lost", async () => {
      const append = (at: number) =>
        (at % 2 ? one : other).transact("u1", (record) => {
          const text = record?.byHand?.text ?? "";
          return { put: saying(`${text}x`), result: text.length };
        });
      const lengths = (await Promise.all(Array.from({ length: 40 }, (_, at) => append(at)))).map((it) => it.result);
      expect(lengths.sort((a, b) => a - b)).toEqual(lengths.map((_, at) => at));
      expect((await read(one, "u1")).record!.byHand!.text).toHaveLength(40);
    });

    test("[PRE3] a step that puts nothing writes nothing, and nobody is told", async () => {
      const words = await heard("u1", "presence:u1");
      const { now } = await say(one, "u1", "first");
      const nothing = await other.transact("u1", (record) => ({ put: null, result: record }));
      expect(nothing).toEqual({ now, result: saying("first") });
      expect(await read(one, "u1")).toEqual(now);
      await say(one, "u1", "second");
      await words.until((word) => word.record.byHand?.text === "second");
      expect(words.texts()).toEqual(["first", "second"]);
    });

    test("[PRE1] a step that throws stores nothing, and its own error comes out", async () => {
      const { now } = await say(one, "u1", "kept");
      const refusal = new Error("refused");
      const attempt = async () =>
        other.transact("u1", () => {
          throw refusal;
        });
      expect(await attempt().catch((error) => error)).toBe(refusal);
      expect(await read(one, "u1")).toEqual(now);
    });

    test("[PRE1] a step is made of the record as it is known, and again where it is another one by now", async () => {
      const change = async (registry: PresenceRegistry, known: VersionedRecord, text: string) => {
        const step = (record: PresenceRecord | null) => ({ put: saying(text), result: record?.byHand?.text });
        const { now, result } = await registry.transact("u1", step, { known });
        return { now, madeOf: result };
      };
      // As where the storage knows of the user and the registry does not.
      const none = await read(one, "u1");
      const first = await change(one, { ...none, record: saying("stored") }, "first");
      const second = await change(other, first.now, "second");
      const third = await change(one, first.now, "third");
      const fourth = await change(one, { ...third.now, mark: "another" }, "fourth");
      expect([first, second, third, fourth].map(({ madeOf }) => madeOf)).toEqual([
        "stored",
        "first",
        "second",
        "third",
      ]);
      expect(await read(other, "u1")).toEqual(fourth.now);
    });

    test("[PRE1] each change is told to nodes that watch the user, or have the user's devices, in the order of versions", async () => {
      for (const topic of ["presence:u1", "user:u1"]) {
        const words = await heard("u1", topic);
        await Promise.all(Array.from({ length: 20 }, (_, at) => say(at % 2 ? one : other, "u1", `${topic} ${at}`)));
        const { now } = await say(one, "u1", `${topic} last`, "phone");
        const last = await words.until(({ version }) => version === now.version);
        expect(last).toEqual({ userId: "u1", ...now, record: now.record!, causeDevice: "phone" });
        // Its own words a node hears by another way.
        const others = words.all.filter(({ record }) => /[02468]$|last$/.test(record.byHand!.text!));
        const versions = [...new Set(others.map(({ version }) => version))];
        expect(versions).toEqual(versions.toSorted((a, b) => a - b));
        expect(new Set(words.all.map(({ version }) => version)).size).toBe(21);
        expect(words.all[0]).not.toHaveProperty("causeDevice");
      }
    });

    test("[CON3] the newest connection of a device has its entry, and the older one is named", async () => {
      await add(one, "u1", { device: deviceAt(one, "a", "old") });
      const { result } = await add(other, "u1", { device: deviceAt(other, "a", "new") });
      expect(result).toMatchObject({ replaced: deviceAt(one, "a", "old"), isRefused: false });
      expect((await read(one, "u1")).record!.devices).toMatchObject([{ deviceId: "a", connectionId: "new" }]);
    });

    test("[LIM] one device too many is refused, over all nodes, but not one that comes back", async () => {
      await add(one, "u1", { device: "a", devicesMax: 2 });
      await add(other, "u1", { device: "b", devicesMax: 2 });
      expect((await add(one, "u1", { device: "c", devicesMax: 2 })).result).toMatchObject({ isRefused: true });
      expect(await idsOf(other, "u1")).toEqual(["a", "b"]);
      expect((await add(one, "u1", { device: deviceAt(one, "b", "again"), devicesMax: 2 })).result).toMatchObject({
        isRefused: false,
      });
      await remove(one, "u1", "a");
      expect((await add(other, "u1", { device: "c", devicesMax: 2 })).result).toMatchObject({ isRefused: false });
    });

    test("[LIM] of devices that come at once no more than the limit get in", async () => {
      const coming = Array.from({ length: 8 }, (_, at) => {
        const registry = at % 2 ? one : other;
        return add(registry, "u1", { device: `d${at}`, devicesMax: 3 });
      });
      const results = (await Promise.all(coming)).map(({ result }) => result);
      expect(results.filter(({ isRefused }) => !isRefused)).toHaveLength(3);
      expect(await idsOf(other, "u1")).toHaveLength(3);
    });

    test("[PRE4] many users are looked up at once, those of whom nothing is known too", async () => {
      const userIds = Array.from({ length: 500 }, (_, at) => `u${at}`);
      await Promise.all(["u1", "u499"].map((userId) => say(one, userId, userId)));
      const found = await other.read([...userIds, "u1"]);
      expect([...found.keys()].sort()).toEqual(userIds.toSorted());
      const known = [...found].flatMap(([userId, { record }]) => (record === null ? [] : [[userId, record]]));
      expect(known.toSorted()).toEqual(["u1", "u499"].map((userId) => [userId, saying(userId)]));
      expect(await other.read([])).toEqual(new Map());
    });

    test("[PRE1] the users that a run of a node has devices of are known, and left alone by a sweep while it lives", async () => {
      await add(one, "u1", { device: "a" });
      await add(one, "u1", { device: "b" });
      await add(one, "u2", { device: "a" });
      await say(one, "u3", "nobody here");
      expect((await one.ownUsers()).sort()).toEqual(["u1", "u2"]);
      const removed: string[] = [];
      for (const registry of [one, other]) await registry.sweep(async ({ userId }) => void removed.push(userId));
      expect(removed).toEqual([]);
      await remove(other, "u1", "a");
      await remove(other, "u2", "a");
      expect(await one.ownUsers()).toEqual(["u1"]);
      expect(await idsOf(other, "u1")).toEqual(["b"]);
    });

    test("[PRE1] nodes agree on the time", async () => {
      await Promise.all([one.read(["u1"]), other.read(["u1"])]);
      expect(Math.abs(one.now() - other.now())).toBeLessThan(1_000);
      expect(Math.abs(one.now() - Date.now())).toBeLessThan(1_000);
    });

    test("[ADM1] users and devices are counted", async () => {
      await add(one, "u1", { device: "a" });
      await add(other, "u1", { device: "b" });
      await add(one, "u1", { device: deviceAt(one, "b", "again") });
      await add(one, "u2", { device: "a" });
      await say(one, "u3", "nobody here");
      expect(await one.stats()).toEqual({ users: 2, devices: 3 });
      await remove(one, "u2", "a");
      expect(await other.stats()).toEqual({ users: 1, devices: 2 });
    });

    test("[SUB5] nothing is counted of devices that have gone", async () => {
      for (let round = 0; round < 100; round++) {
        await add(one, `u${round % 7}`, { device: deviceAt(one, "a", `c${round}`) });
        await remove(other, `u${round % 7}`, "a");
      }
      expect(await one.stats()).toEqual({ users: 0, devices: 0 });
      expect([await one.ownUsers(), await other.ownUsers()]).toEqual([[], []]);
    });

    /** Collects what the other node hears of a user, on one topic. */
    async function heard(userId: string, topic: string) {
      const all: PresenceWord[] = [];
      let changed = () => {};
      other.onWord((word) => {
        if (word.userId === userId) all.push(word);
        changed();
      });
      await opened.nodes.other.watch(topic);
      return {
        all,
        texts: () => all.map(({ record }) => record.byHand?.text),
        until: (isSo: (word: PresenceWord) => boolean) =>
          new Promise<PresenceWord>((resolve) => {
            changed = () => {
              const found = all.find(isSo);
              if (found !== undefined) resolve(found);
            };
            changed();
          }),
      };
    }
  });
}
