/** Presence: how devices join to one status, and who is told of what, how often. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { DevicePresence, DeviceStatus } from "../../src/cluster/ports.ts";
import type { PresenceTracker, PresenceUpdate } from "../../src/presence/tracker.ts";
import { joinDevices, viewForOthers, viewForSelf } from "../../src/presence/view.ts";
import { ProtocolError } from "../../src/protocol/errors.ts";
import type { UserStatus } from "../../src/storage/ports.ts";
import { asker, device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

const byHand = (status: PresenceUpdate["status"], more: Partial<PresenceUpdate> = {}): PresenceUpdate => ({
  status,
  automatic: false,
  ...more,
});
const automatic = (status: PresenceUpdate["status"]): PresenceUpdate => ({ status, automatic: true });
const iso = (at: number) => new Date(at).toISOString();

describe("the join", () => {
  const devices = (...statuses: DeviceStatus[]) => statuses.map((status) => ({ status }) as DevicePresence);
  const shownToOthers = (of: DevicePresence[], byHand: UserStatus | null) =>
    viewForOthers({ devices: of, byHand, lastSeenAt: null }, 0);
  const shownToSelf = (of: DevicePresence[], byHand: UserStatus | null) =>
    viewForSelf({ devices: of, byHand, lastSeenAt: null }, 0);

  test("[PRE2] busy beats online beats away beats offline, in whatever order devices came", () => {
    const rank = ["offline", "away", "online", "busy"];
    fc.assert(
      fc.property(fc.array(fc.constantFrom<DeviceStatus>("away", "online", "busy")), (statuses) => {
        const highest = Math.max(0, ...statuses.map((status) => rank.indexOf(status)));
        expect(joinDevices(devices(...statuses))).toBe(rank[highest] as DeviceStatus);
      }),
    );
  });

  test("[PRE2] a status set by hand is the user's, and is over with the last device", () => {
    const status = { status: "away", text: "lunch", emoji: null, expiresAt: 5 } as const;
    expect(shownToOthers(devices("busy", "online"), status)).toEqual({ ...status, expiresAt: null });
    expect(shownToSelf(devices("busy"), status)).toEqual(status);
    expect(shownToOthers([], status)).toEqual({ status: "offline", text: null, emoji: null, expiresAt: null });
  });

  test("[PRE2] online by hand gives the status back to the devices and keeps the text", () => {
    const status = { status: "online", text: "lunch", emoji: "🍜", expiresAt: null } as const;
    expect(shownToOthers(devices("away"), status)).toMatchObject({ status: "away", text: "lunch", emoji: "🍜" });
  });

  test("[PRE2] invisible looks to others exactly like offline, and like itself to oneself", () => {
    const status = { status: "invisible", text: "hush", emoji: "🤫", expiresAt: 5 } as const;
    expect(shownToOthers(devices("busy"), status)).toEqual(shownToOthers([], null));
    expect(shownToSelf(devices("busy"), status)).toEqual(status);
  });
});

describe("the tracker", () => {
  let world: PresenceWorld;
  let tracker: PresenceTracker;
  beforeEach(async () => {
    world = await openPresenceWorld();
    tracker = world.tracker;
  });
  afterEach(() => world.close());

  const phone = device("ann", "phone");
  const laptop = device("ann", "laptop");
  const leave = (place: typeof phone, clean = true) => tracker.disconnect({ ...place, clean });
  const idsOf = async (userId: string, node = tracker) =>
    (await node.devicesOf(userId)).map(({ deviceId }) => deviceId).sort();
  /** Somebody is here, and what others are told of that is a while ago. */
  const comeHere = async (...places: (typeof phone)[]) => {
    for (const place of places) await tracker.connect(place);
    await world.clock.pass(1_000);
    await world.told();
  };

  describe("coming and going", () => {
    test("[PRE1] online with the first device, offline after the last one", async () => {
      const start = world.clock.now();
      expect(await tracker.connect(phone)).toEqual({ accepted: true, replaced: null });
      expect(await world.told()).toEqual([
        { to: "others", type: "presence.online", payload: { user_id: "ann", status: "online", at: iso(start) } },
      ]);
      await tracker.connect(laptop);
      await leave(phone);
      expect(await world.heard()).toEqual([]);
      await world.clock.pass(5_000);
      await leave(laptop);
      const lastSeen = iso(start + 5_000);
      expect(await world.told()).toEqual([
        { to: "others", type: "presence.offline", payload: { user_id: "ann", last_seen: lastSeen } },
      ]);
      expect(await tracker.query(asker("bob"), ["ann"], new Set(["ann"]))).toEqual([
        { user_id: "ann", status: "offline", last_seen: lastSeen },
      ]);
    });

    test("[PRE1] a word that has of a node's devices what is so asks for no look at the record, another one does", async () => {
      await comeHere(phone);
      const { mark, version, record } = (await world.registry.read(["ann"])).get("ann")!;
      const { hear } = world.nodes.get(world.watchedOn)!.registry;
      const elsewhere = { ...record!.devices[0]!, deviceId: "tv", connectionId: "tv", run: "another" };
      world.asked.length = 0;
      const more = { ...record!, devices: [...record!.devices, elsewhere] };
      hear({ userId: "ann", mark, version: version + 1, record: more });
      await world.settled();
      expect(world.asked).toEqual([]);
      hear({ userId: "ann", mark, version: version + 2, record: { ...record!, devices: [elsewhere] } });
      await world.settled();
      expect(world.asked).toContain("transact");
    });

    test("[PRE1] a reconnect within the grace is not seen by anybody", async () => {
      tracker.start();
      await comeHere(phone);
      await tracker.update(phone, automatic("away"));
      await world.heard();
      await leave(phone, false);
      await world.clock.pass(9_999);
      expect(await tracker.query(asker("bob"), ["ann"], new Set(["ann"]))).toMatchObject([{ status: "away" }]);
      await tracker.connect(device("ann", "phone", "second"));
      expect(await tracker.stats()).toMatchObject({ devices: 1, leaving: 0 });
      await world.clock.pass(60_000);
      expect(await world.heard()).toEqual([]);
      expect(await idsOf("ann")).toEqual(["phone"]);
    });

    test("[PRE1] who has not come back when the grace is over is offline since the break", async () => {
      tracker.start();
      await tracker.connect(phone);
      await world.heard();
      const start = world.clock.now();
      await leave(phone, false);
      await world.clock.pass(10_000);
      expect(await world.told()).toMatchObject([{ type: "presence.offline", payload: { last_seen: iso(start) } }]);
      expect((await world.storage.statuses.get(["ann"])).get("ann")?.lastSeenAt).toBe(start);
      expect(await tracker.stats()).toEqual({ users: 0, devices: 0, leaving: 0, held_back: 0 });
    });

    test("[PRE1] the late close of a replaced connection takes nobody offline", async () => {
      await tracker.connect(phone);
      const second = device("ann", "phone", "second");
      expect(await tracker.connect(second)).toMatchObject({ replaced: { connectionId: phone.connectionId } });
      await leave(phone, true);
      await leave(second, false);
      // The older connection's close comes after the newer one's: the grace that runs is the newer one's.
      await leave(phone, false);
      await world.heard();
      await world.clock.pass(10_000);
      expect(await world.heard()).toEqual(["others offline ann"]);
    });

    test("[PRE1] connects and disconnects at the same time never end in the wrong order", async () => {
      const rounds = 20;
      const all: unknown[] = [];
      for (let round = 0; round < rounds; round++) {
        const place = device("ann", "phone", `c${round}`);
        all.push(tracker.connect(place), tracker.disconnect({ ...place, clean: true }));
      }
      await Promise.all(all);
      expect(await world.heard()).toEqual(["others online ann online"]);
      await world.clock.pass(1_000);
      expect(await world.heard()).toEqual(["others offline ann"]);
      expect(await idsOf("ann")).toEqual([]);
    });

    test("[PRE1] others are told of at most one coming or going a second, the last one, and of nothing where it is as it was", async () => {
      await comeHere(phone);
      await leave(phone);
      await tracker.connect(phone);
      await leave(phone);
      expect(await world.heard()).toEqual(["others offline ann"]);
      await tracker.connect(phone);
      await world.clock.pass(999);
      expect(await world.heard()).toEqual([]);
      await world.clock.pass(1);
      expect(await world.heard()).toEqual(["others online ann online"]);
      await leave(phone);
      await tracker.connect(phone);
      await world.clock.pass(5_000);
      expect(await world.heard()).toEqual([]);
    });

    test("[PRE1] last_seen of somebody who is here is at most a minute old in the storage, of somebody invisible as it was", async () => {
      tracker.start();
      await comeHere(phone, device("eve", "phone"));
      await tracker.update(device("eve", "phone"), byHand("invisible"));
      const invisibleSince = world.clock.now();
      await world.clock.pass(61_000);
      const lastSeen = async (userId: string) => (await world.storage.statuses.get([userId])).get(userId)!.lastSeenAt!;
      expect(world.clock.now() - (await lastSeen("ann"))).toBeLessThanOrEqual(60_000);
      expect(await lastSeen("eve")).toBe(invisibleSince);
    });

    test("[LIM] one device too many is refused, and one in its grace makes room", async () => {
      await tracker.connect(phone);
      await tracker.connect(laptop);
      await tracker.connect(device("ann", "tablet"));
      const watch = device("ann", "watch");
      expect(await tracker.connect(watch)).toEqual({ accepted: false, replaced: null });
      await leave(laptop, false);
      expect(await tracker.connect(watch)).toEqual({ accepted: true, replaced: null });
      expect(await idsOf("ann")).toEqual(["phone", "tablet", "watch"]);
      expect(await tracker.stats()).toMatchObject({ leaving: 0 });
      expect(await world.heard()).toEqual(["others online ann online"]);
    });

    test("[DRN] stopping shows no one offline and leaves no timer", async () => {
      tracker.start();
      await tracker.connect(phone);
      await tracker.connect(laptop);
      await leave(laptop, false);
      await tracker.update(phone, byHand("busy"));
      await tracker.update(phone, byHand("away"));
      await world.heard();
      await tracker.stop();
      await leave(phone, true);
      expect(world.clock.waiting()).toBe(0);
      expect(await world.heard()).toEqual([]);
      const { record } = (await world.registry.read(["ann"])).get("ann")!;
      const left = record!.devices.map(({ deviceId, leaving }) => [deviceId, leaving !== undefined]);
      expect(left).toEqual([
        ["laptop", true],
        ["phone", true],
      ]);
    });
  });

  describe("what others are told", () => {
    test("[PRE3] an update has its text, emoji and moment; the device that caused it is left out", async () => {
      await comeHere(phone);
      await tracker.update(phone, byHand("busy", { status_text: "in a meeting", status_emoji: "📅" }));
      const at = iso(world.clock.now());
      const payload = { user_id: "ann", status: "busy", status_text: "in a meeting", status_emoji: "📅", at };
      expect(await world.told()).toEqual([
        { to: "own", type: "presence.update", payload, except: "phone" },
        { to: "others", type: "presence.update", payload, except: "phone" },
      ]);
    });

    test("[PRE3] what others cannot see a difference in is not told", async () => {
      await comeHere(phone, laptop);
      await tracker.update(phone, automatic("away"));
      await tracker.update(laptop, byHand("online"));
      await leave(phone);
      expect(await world.heard()).toEqual([]);
      await tracker.update(laptop, automatic("away"));
      expect(await world.heard()).toEqual(["own update ann away", "others update ann away"]);
    });

    test("[PRE3] at most one update a second, the last one wins, and nothing where it is the one sent last", async () => {
      await comeHere(phone);
      await tracker.update(phone, automatic("busy"));
      await tracker.update(phone, automatic("away"));
      await tracker.update(phone, automatic("online"));
      const others = async () => (await world.heard()).filter((line) => line.startsWith("others"));
      expect(await others()).toEqual(["others update ann busy"]);
      await world.clock.pass(999);
      expect(await others()).toEqual([]);
      await world.clock.pass(1);
      expect(await others()).toEqual(["others update ann online"]);
      await tracker.update(phone, automatic("busy"));
      await tracker.update(phone, automatic("online"));
      await world.clock.pass(10_000);
      expect(await others()).toEqual([]);
      expect(await tracker.stats()).toMatchObject({ held_back: 0 });
    });

    test("[PRE1] [PRE3] what is held back is told as it is at the end of the second, whatever came and went meanwhile", async () => {
      await comeHere(phone);
      await tracker.update(phone, byHand("busy"));
      await tracker.update(phone, byHand("away"));
      await world.heard();
      await leave(phone);
      await tracker.connect(phone);
      expect(await world.heard()).toEqual([]);
      await world.clock.pass(1_000);
      expect(await world.heard()).toEqual(["others update ann away"]);
      await world.clock.pass(5_000);
      expect(await world.heard()).toEqual([]);
    });

    test("[PRE3] two devices within one second: both hear what the other did", async () => {
      await comeHere(phone, laptop);
      await tracker.update(phone, byHand("busy"));
      await tracker.update(phone, byHand("away"));
      await tracker.update(laptop, byHand("busy", { status_text: "!" }));
      await world.told();
      await world.clock.pass(1_000);
      const [told] = await world.told();
      expect(told).toMatchObject({ to: "others", payload: { status: "busy", status_text: "!" } });
      expect(told?.except).toBeUndefined();
    });
  });

  describe("the status set by hand", () => {
    test("[PRE2] it is the user's, not the device's, and survives a reconnect and a restart", async () => {
      await tracker.connect(phone);
      await tracker.update(phone, byHand("busy", { status_text: "thinking" }));
      await tracker.connect(laptop);
      await leave(phone);
      await world.clock.pass(2_000);
      await world.heard();
      await leave(laptop);
      world.empty();
      await world.clock.pass(1_000);
      await world.addNode("restarted").connect(phone);
      await world.clock.pass(5_000);
      expect(await world.heard()).toEqual(["others offline ann", 'others online ann busy "thinking"']);
    });

    test("[PRE2] online by hand goes back to automatic; what is left out stays, and null clears it", async () => {
      await tracker.connect(phone);
      const expires_at = iso(world.clock.now() + 60_000);
      await tracker.update(phone, byHand("busy", { status_text: "thinking", status_emoji: "🤔", expires_at }));
      await tracker.update(phone, byHand("online"));
      expect(await tracker.query(asker("ann"), ["ann"], new Set())).toEqual([
        { user_id: "ann", status: "online", status_text: "thinking", status_emoji: "🤔", expires_at, devices: 1 },
      ]);
      await tracker.update(phone, automatic("away"));
      await tracker.update(phone, byHand("busy", { status_text: null, expires_at: null }));
      expect(await tracker.query(asker("ann"), ["ann"], new Set())).toEqual([
        { user_id: "ann", status: "busy", status_emoji: "🤔", devices: 1 },
      ]);
      await tracker.update(phone, byHand("online", { status_emoji: null }));
      expect(await tracker.query(asker("ann"), ["ann"], new Set())).toEqual([
        { user_id: "ann", status: "online", devices: 1 },
      ]);
    });

    test("[PRE2] invisible is offline to others, online again when it ends, and told truly to own devices", async () => {
      await comeHere(phone);
      const at = iso(world.clock.now());
      await tracker.update(phone, byHand("invisible", { status_text: "hush" }));
      expect(await world.heard()).toEqual(['own update ann invisible "hush"', "others offline ann"]);
      await world.clock.pass(60_000);
      await tracker.connect(laptop);
      await leave(laptop);
      await leave(phone);
      // Neither events nor `last_seen` say when somebody invisible was really there.
      expect(await world.heard()).toEqual([]);
      expect(await tracker.query(asker("bob"), ["ann"], new Set(["ann"]))).toEqual([
        { user_id: "ann", status: "offline", last_seen: at },
      ]);
      await tracker.connect(phone);
      expect(await world.heard()).toEqual([]);
      await tracker.update(phone, byHand("busy"));
      expect(await world.heard()).toEqual(['own update ann busy "hush"', 'others online ann busy "hush"']);
    });

    test("[PRE2] an end in the past and a device that is invisible by itself are refused", async () => {
      await tracker.connect(phone);
      const past = byHand("busy", { expires_at: iso(world.clock.now()) });
      const refused = await tracker.update(phone, past).catch((error) => error);
      expect(refused).toBeInstanceOf(ProtocolError);
      expect(refused).toMatchObject({ code: "invalid_payload", details: { field: "payload.expires_at" } });
      const alone = await tracker.update(phone, automatic("invisible")).catch((error) => error);
      expect(alone).toMatchObject({ code: "invalid_payload", details: { field: "payload.status" } });
      expect(await world.heard()).toEqual(["others online ann online"]);
    });

    test("[PRE2] it ends by itself, once, whichever node notices", async () => {
      const other = world.addNode("n2");
      await comeHere(phone);
      await tracker.update(phone, byHand("busy", { expires_at: iso(world.clock.now() + 30_000) }));
      await world.heard();
      other.start();
      tracker.start();
      await world.clock.pass(29_000);
      expect(await world.heard()).toEqual([]);
      await world.clock.pass(5_000);
      expect(await world.heard()).toEqual(["own update ann online", "others update ann online"]);
      await world.clock.pass(60_000);
      expect((await world.storage.statuses.get(["ann"])).get("ann")!.status).toBeNull();
    });

    test("[PRE2] what has ended leaves nothing to the next status, even before its end was noticed", async () => {
      await tracker.connect(phone);
      const expires_at = iso(world.clock.now() + 1_000);
      await tracker.update(phone, byHand("busy", { status_text: "thinking", expires_at }));
      await world.clock.pass(2_000);
      await tracker.update(phone, byHand("away"));
      expect(await tracker.query(asker("ann"), ["ann"], new Set())).toEqual([
        { user_id: "ann", status: "away", devices: 1 },
      ]);
    });

    test("[PRE2] the end of invisible is an online, on a node that never knew of it too", async () => {
      await comeHere(phone);
      await tracker.update(phone, byHand("invisible", { expires_at: iso(world.clock.now() + 3_000) }));
      await world.heard();
      world.addNode("n2");
      await world.watch("ann");
      world.watchedOn = "n2";
      await world.clock.pass(5_000);
      expect(await world.heard()).toEqual(["own update ann online", "others online ann online"]);
    });

    test("[PRE2] the end of a status of somebody who is away is nobody's news", async () => {
      await comeHere(phone);
      await tracker.update(phone, byHand("busy", { expires_at: iso(world.clock.now() + 3_000) }));
      await leave(phone);
      await world.clock.pass(1_000);
      await world.heard();
      tracker.start();
      await world.clock.pass(5_000);
      expect(await world.heard()).toEqual([]);
    });
  });

  describe("questions", () => {
    test("[PRE4] who may not be seen reads as offline without last_seen; devices only for oneself", async () => {
      await tracker.connect(phone);
      await tracker.connect(laptop);
      await tracker.connect(device("bob", "phone"));
      await tracker.connect(device("eve", "phone"));
      await tracker.disconnect({ ...device("eve", "phone"), clean: true });
      expect(await tracker.query(asker("ann"), ["eve", "ann", "bob", "nobody"], new Set(["bob"]))).toEqual([
        { user_id: "eve", status: "offline" },
        { user_id: "ann", status: "online", devices: 2 },
        { user_id: "bob", status: "online" },
        { user_id: "nobody", status: "offline" },
      ]);
    });

    test("[PRE5] a snapshot shows what others see", async () => {
      await comeHere(phone);
      await tracker.update(phone, byHand("away", { status_text: "lunch", expires_at: iso(world.clock.now() + 9_000) }));
      await tracker.prepareSnapshots(["ann", "bob"]);
      expect(tracker.snapshotOf(asker("bob"), "ann")).toEqual({ user_id: "ann", status: "away", status_text: "lunch" });
      expect(tracker.snapshotOf(asker("bob"), "bob")).toEqual({ user_id: "bob", status: "offline", devices: 0 });
    });
  });

  describe("trouble", () => {
    const away = () => world.nodes.get("n2")!.registry;

    test("[PRE1] the users of a node that died go offline once; who was invisible or is elsewhere too is not told of", async () => {
      const dying = world.addNode("n2");
      for (const userId of ["ann", "bob", "eve"]) await dying.connect(device(userId, "laptop"));
      await dying.update(device("eve", "laptop"), byHand("invisible"));
      await comeHere(device("bob", "phone"));
      const seenAt = world.clock.now();
      world.dead.set(away().run, seenAt);
      away().isAway = true;
      tracker.start();
      await world.clock.pass(3_000);
      expect(await world.told()).toEqual([
        { to: "others", type: "presence.offline", payload: { user_id: "ann", last_seen: iso(seenAt) } },
      ]);
      expect((await world.storage.statuses.get(["ann"])).get("ann")?.lastSeenAt).toBe(seenAt);
    });

    test("[PRE1] while the status store is away nobody stays online who has gone", async () => {
      await comeHere(phone);
      world.away.add("get");
      const last_seen = iso(world.clock.now());
      await leave(phone);
      expect(await world.told()).toEqual([
        { to: "others", type: "presence.offline", payload: { user_id: "ann", last_seen } },
      ]);
      await expect(tracker.connect(device("somebody unknown", "phone"))).rejects.toThrow("away");
      world.away.clear();
      expect(await idsOf("somebody unknown")).toEqual([]);
    });

    test("[PRE1] while the registry is away who comes is shown here, who goes when it is known, and nobody is kept out by others", async () => {
      const other = world.addNode("n2");
      await other.connect(phone);
      await world.clock.pass(1_000);
      away().isAway = true;
      world.watchedOn = "n2";
      await world.watch("ann", "bob");
      await world.told();
      expect(await other.connect(device("bob", "phone"))).toMatchObject({ accepted: true });
      await other.disconnect({ ...phone, clean: true });
      expect(await world.heard()).toEqual(["others online bob online"]);
      expect((await other.devicesOf("bob")).length).toBe(1);
      away().isAway = false;
      await world.clock.pass(1_000);
      expect(await world.heard()).toEqual(["others offline ann"]);
      expect(await idsOf("bob")).toEqual(["phone"]);
    });

    test("[PRE2] a status that is set while the registry is away is stored, shown here, and everywhere later", async () => {
      const other = world.addNode("n2");
      await other.connect(phone);
      await world.clock.pass(1_000);
      await world.told();
      away().isAway = true;
      await other.update(phone, byHand("busy", { status_text: "alone" }));
      await other.update(phone, byHand("away"));
      expect(await world.heard()).toEqual(['own update ann busy "alone"', 'own update ann away "alone"']);
      expect((await world.storage.statuses.get(["ann"])).get("ann")!.status).toMatchObject({ status: "away" });
      away().isAway = false;
      await world.clock.pass(1_000);
      expect(await world.heard()).toEqual(['others update ann away "alone"']);
    });

    test("[PRE1] [LIM] while the registry is away one in its grace keeps nobody out, and what is here still counts", async () => {
      const node = world.addNode("n2");
      for (const ref of [phone, laptop, device("ann", "tablet")]) await node.connect(ref);
      away().isAway = true;
      expect(await node.connect(device("ann", "watch"))).toMatchObject({ accepted: false });
      await node.disconnect({ ...laptop, clean: false });
      expect(await node.connect(device("ann", "watch"))).toMatchObject({ accepted: true });
      away().isAway = false;
      node.start();
      await world.clock.pass(11_000);
      expect(await idsOf("ann")).toEqual(["phone", "tablet", "watch"]);
      expect(await node.stats()).toMatchObject({ devices: 3, leaving: 0 });
    });

    test("[PRE2] what a device that left made of its user goes with it, though the status cannot be read", async () => {
      await tracker.connect(phone);
      await tracker.connect(laptop);
      await tracker.update(phone, automatic("busy"));
      await world.clock.pass(2_000);
      await world.heard();
      world.away.add("get");
      await leave(phone);
      expect(await world.heard()).toEqual(["own update ann online", "others update ann online"]);
    });

    test("[PRE1] a device that the registry had let go of at a try that failed is told of at the next", async () => {
      const node = world.addNode("n2");
      await node.connect(phone);
      world.watchedOn = "n2";
      await world.watch("ann");
      await world.told();
      away().losesAnswer = true;
      await node.disconnect({ ...phone, clean: true });
      away().losesAnswer = false;
      expect(await world.heard()).toEqual([]);
      await world.clock.pass(1_000);
      expect(await world.heard()).toEqual(["others offline ann"]);
    });

    test("[PRE2] an update that could not be stored is refused and not told", async () => {
      await tracker.connect(phone);
      await world.heard();
      world.away.add("set");
      await expect(tracker.update(phone, byHand("busy"))).rejects.toThrow("away");
      expect(await world.heard()).toEqual([]);
    });
  });
});
