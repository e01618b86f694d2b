/** The checker's rules of what backends are told can fail: a broken history by hand for each, and sound ones that look suspicious [BAK3]. */
import { describe, expect, test } from "bun:test";
import { type BrokenHistory, proveBroken } from "../support/broken-history.ts";
import type { History } from "../support/checker/history.ts";
import { judge } from "../support/checker/judge.ts";
import { missedRules } from "../support/checker/rules-missed.ts";
import { cursorAt } from "../support/cursors.ts";
import { type ConnectionWriter, deletion, firstCursor, historyOf, message, rowOf } from "../support/histories.ts";

type Scene = Parameters<Parameters<typeof historyOf>[0]>[0] & { backend: ConnectionWriter; cleo: ConnectionWriter };

const second = (at: number) => `2026-01-01T00:00:${String(at).padStart(2, "0")}.000Z`;
/** The log, second after second. */
const [one, two] = [10, 30].map((at, index) => ({ ...message(index + 1), timestamp: second(at) })) as [any, any];
const at = (position: number) => cursorAt(firstCursor, position);

const missed = (seq: number, of: any, user_ids: string[], rest: object = {}) => ({
  ...{ id: `missed${seq}`, type: "delivery.missed", topic: "missed", seq, position: 500 + seq },
  timestamp: second(of.position + 6),
  payload: { event_id: of.id, topic: of.topic, seq: of.seq, type: of.type, user_ids, sender_id: "anna", ...rest },
});

const unreached = (seq: number) => ({
  ...{ id: `missed${seq}`, type: "call.unreached", topic: "missed", seq, position: 500 + seq, timestamp: second(12) },
  payload: { call_id: "k1", from_user_id: "anna", to_user_id: "cleo", media: "audio", expires_at: second(50) },
});

/** Cleo is there as well, and a backend hears what was missed 5 s after it happens. */
function withBackend(happens: (scene: Scene) => void, log: object[] = [one]): History {
  return historyOf(
    (scene) => {
      const { writer, ben } = scene;
      writer.history.conversations[0]!.userIds.push("cleo");
      writer.history.pushAfterMs = 5_000;
      const backend = writer.connect(writer.addDevice("backend", "b1"));
      const topics = [{ topic: "missed", seq: 0 }];
      backend.exchange(["subscribe", { topics: ["missed"] }], ["subscribed", { topics, rejected: [], cursor: at(0) }]);
      const cleo = writer.connect(writer.addDevice("cleo", "cleos"));
      cleo.live();
      cleo.hear("presence.online", { user_id: "anna", status: "online" });
      cleo.hear("presence.online", { user_id: "ben", status: "online" });
      ben.hear("presence.online", { user_id: "cleo", status: "online" });
      scene.phone.hear("presence.online", { user_id: "cleo", status: "online" });
      scene.laptop.hear("presence.online", { user_id: "cleo", status: "online" });
      happens({ ...scene, backend, cleo });
    },
    { log, statuses: { cleo: "offline" } },
  );
}

/** Cleo goes, and everybody sees it. */
function goAway({ cleo, ben, phone, laptop }: Scene): void {
  cleo.close(1000);
  for (const other of [ben, phone, laptop])
    other.see({ id: "off", type: "presence.offline", payload: { user_id: "cleo" }, timestamp: second(5) });
}

/** Cleo goes, is shown as offline in snapshots, and comes back once a later message was told; of the first nobody is told. */
function isShownOffline(scene: Scene, presence: object): void {
  const { ben, phone, laptop, cleo, backend } = scene;
  cleo.close();
  const topics = [
    { topic: "presence:cleo", snapshot: { presence: { user_id: "cleo", status: "offline", ...presence } } },
  ];
  const payload = { topics, rejected: [], cursor: at(0) };
  for (const other of [ben, phone, laptop]) {
    const reply_to = other.request("subscribe", { topics: ["presence:cleo"] });
    other.see({ id: "shown", type: "subscribed", payload, timestamp: second(5), reply_to });
  }
  send(scene, one);
  send(scene, two);
  backend.see(missed(1, two, ["cleo"]));
  comeBack(scene, one, two).close(1000);
  for (const other of [ben, phone, laptop]) other.hear("presence.offline", { user_id: "cleo" });
}

function send({ phone, laptop, ben }: Scene, sent: any): void {
  phone.send(sent);
  for (const other of [laptop, ben]) other.see(sent);
}

/** Shows that the connection is there at that second. */
const isThere = (connection: ConnectionWriter, second_: number) =>
  connection.see({ id: `there${second_}`, type: "pong", payload: { cursor: at(0) }, timestamp: second(second_) });

/** Cleo comes back, and has everything. */
function comeBack({ writer, ben, phone, laptop }: Scene, ...replayed: object[]): ConnectionWriter {
  const again = writer.connect(writer.history.devices.find(({ userId }) => userId === "cleo")!, { since: at(0) });
  const request = again.request("subscribe", { topics: ["conversation"], since: { cursor: at(0) } });
  again.see(...replayed);
  const topics = [{ topic: "conversation:c1", seq: 2, recovered: true, replayed: replayed.length }];
  again.reply(request, "subscribed", { topics, rejected: [], cursor: at(40) });
  for (const userId of ["anna", "ben"]) again.hear("presence.online", { user_id: userId, status: "online" });
  for (const other of [ben, phone, laptop]) other.hear("presence.online", { user_id: "cleo", status: "online" });
  return again;
}

function call({ phone }: Scene): void {
  const payload = { call_id: "k1", to_user_id: "cleo" };
  const id = phone.request("call.offer", payload);
  phone.see({ id: "a", type: "ack", payload: {}, timestamp: second(11), reply_to: id });
}

function hangUp({ phone }: Scene): void {
  phone.exchange(["call.hangup", { call_id: "k1" }], ["ack"]);
  phone.hear("call.ended", { call_id: "k1", reason: "cancelled" });
}

const missedCall = (seq: number) =>
  missed(seq, { id: "end", topic: "user:cleo", seq: 1, type: "call.ended", position: 12 }, ["cleo"]);

describe("sound histories", () => {
  const sound: [string, () => History][] = [
    [
      "[BAK3] who was away is told of once",
      () =>
        withBackend((scene) => {
          goAway(scene);
          send(scene, one);
          scene.backend.see(missed(1, one, ["cleo"]));
        }),
    ],
    [
      "[BAK3] who came back before it was looked at may be told of, or not",
      () =>
        withBackend((scene) => {
          goAway(scene);
          send(scene, one);
          const again = comeBack(scene, one);
          again.close(1000);
          for (const other of [scene.ben, scene.phone, scene.laptop])
            other.hear("presence.offline", { user_id: "cleo" });
        }),
    ],
    [
      "[BAK3] [PRE5] who is shown as offline because nothing is known may have been there",
      () => withBackend((scene) => isShownOffline(scene, {}), [one, two]),
    ],
    [
      "[BAK3] of a message that somebody deletes nobody need be told",
      () => {
        const gone = deletion(2, one);
        return withBackend(
          (scene) => {
            goAway(scene);
            send(scene, one);
            scene.phone.change(gone);
            for (const other of [scene.laptop, scene.ben]) other.see(gone);
          },
          [rowOf(one, gone), gone],
        );
      },
    ],
    [
      "[BAK3] the same event comes again from what was acknowledged",
      () =>
        withBackend((scene) => {
          goAway(scene);
          send(scene, one);
          scene.backend.see(missed(1, one, ["cleo"]));
          scene.backend.close();
          const { writer } = scene;
          const again = writer.connect(writer.history.devices.find(({ userId }) => userId === "backend")!, {
            since: "acked",
          });
          const request = again.request("subscribe", { topics: ["missed"], since: "acked" });
          again.see(missed(1, one, ["cleo"]));
          const topics = [{ topic: "missed", seq: 1, recovered: true, replayed: 1 }];
          again.reply(request, "subscribed", { topics, rejected: [], cursor: at(501) });
        }),
    ],
    [
      "[BAK3] a call finds nobody, and is missed",
      () =>
        withBackend((scene) => {
          goAway(scene);
          call(scene);
          scene.backend.see(unreached(1));
          hangUp(scene);
          scene.backend.see(missedCall(2));
        }, []),
    ],
    [
      "[BAK3] a call finds nobody, and is over before the log is back",
      () =>
        withBackend((scene) => {
          goAway(scene);
          call(scene);
          scene.laptop.exchange(["history", { topic: "conversation:c1" }], ["error", { code: "unavailable" }]);
          hangUp(scene);
          scene.backend.see(missedCall(1));
        }, []),
    ],
  ];
  for (const [what, history] of sound) test(what, () => expect(judge(history())).toEqual([]));
});

const cases: BrokenHistory[] = [
  {
    rule: "missed-once",
    what: "[BAK3] one event is told twice of one user",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        send(scene, one);
        scene.backend.see(missed(1, one, ["cleo"]), missed(2, one, ["cleo"]));
      }),
  },
  {
    rule: "missed-once",
    what: "[BAK3] one call is told twice",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        call(scene);
        scene.backend.see(unreached(1), unreached(2));
        hangUp(scene);
        scene.backend.see(missedCall(3));
      }, []),
  },
  {
    rule: "missed-told",
    what: "[BAK3] a message to one who was away is never told",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        send(scene, one);
      }),
  },
  {
    rule: "missed-told",
    what: "[BAK3] a message is passed over, and one comes back after a later one was told",
    history: () =>
      withBackend(
        (scene) => {
          goAway(scene);
          send(scene, one);
          send(scene, two);
          scene.backend.see(missed(1, two, ["cleo"]));
          const again = comeBack(scene, one, two);
          again.close(1000);
          for (const other of [scene.ben, scene.phone, scene.laptop])
            other.hear("presence.offline", { user_id: "cleo" });
        },
        [one, two],
      ),
  },
  {
    rule: "missed-told",
    what: "[BAK3] a message is passed over, and one is shown as offline since some moment",
    history: () => withBackend((scene) => isShownOffline(scene, { last_seen: second(4) }), [one, two]),
  },
  {
    rule: "missed-told",
    what: "[BAK3] a notification is never told",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        const published = [{ topic: "notifications:cleo", seq: 1, position: 9, duplicate: false }];
        scene.backend.exchange(["publish", { type: "notification", user_ids: ["cleo"] }], ["ack", { published }]);
      }, []),
  },
  {
    rule: "unreached-told",
    what: "[BAK3] a call finds nobody, and nobody is told",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        call(scene);
        hangUp(scene);
        scene.backend.see(missedCall(1));
      }, []),
  },
  {
    rule: "missed-told",
    what: "[BAK3] a call that was taken back is never told to have been missed",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        call(scene);
        scene.backend.see(unreached(1));
        hangUp(scene);
      }, []),
  },
  {
    rule: "missed-true",
    what: "[BAK3] one who was there all the time is told of",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        send(scene, one);
        scene.backend.see(missed(1, one, ["ben", "cleo"]));
        isThere(scene.ben, 59);
      }),
  },
  {
    rule: "missed-true",
    what: "[BAK3] one who had acknowledged it in time is told of",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        send(scene, one);
        const id = scene.ben.request("ack", { cursor: at(10) });
        scene.ben.see({ id: "a", type: "ack", payload: { cursor: at(10) }, timestamp: second(12), reply_to: id });
        scene.backend.see(missed(1, one, ["ben", "cleo"]));
      }),
  },
  {
    rule: "missed-true",
    what: "[BAK3] one who had read it in time is told of",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        send(scene, one);
        const id = scene.ben.request("mark.read", { conversation_id: "c1", up_to_seq: 1 });
        scene.ben.see({ id: "a", type: "ack", payload: { up_to_seq: 1 }, timestamp: second(14), reply_to: id });
        scene.backend.see(missed(1, one, ["ben", "cleo"]));
      }),
  },
  {
    rule: "missed-true",
    what: "[BAK3] an author is told to have missed its own",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        send(scene, one);
        scene.backend.see(missed(1, one, ["anna", "cleo"]));
      }),
  },
  {
    rule: "missed-true",
    what: "[BAK3] a call that had found its callee is told",
    history: () =>
      withBackend((scene) => {
        goAway(scene);
        scene.phone.exchange(["call.offer", { call_id: "k1", to_user_id: "ben" }], ["ack"]);
        scene.ben.hear("call.incoming", { call_id: "k1" });
        const event = unreached(1);
        scene.backend.see({ ...event, payload: { ...event.payload, to_user_id: "ben" } });
        hangUp(scene);
        scene.ben.hear("call.ended", { call_id: "k1", reason: "cancelled" });
        isThere(scene.ben, 59);
      }, []),
  },
];

describe("broken histories", () => {
  proveBroken(cases);

  test("[BAK3] there is one for every rule", () => {
    expect([...new Set(cases.map(({ rule }) => rule))].sort()).toEqual(missedRules.map(({ id }) => id).sort());
  });
});
