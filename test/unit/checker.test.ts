/** The checker's judge can fail: a broken history by hand for every rule, and sound ones that look suspicious. */
import { describe, expect, test } from "bun:test";
import { type BrokenHistory, proveBroken } from "../support/broken-history.ts";
import type { History } from "../support/checker/history.ts";
import { judge, report, rules } from "../support/checker/judge.ts";
import { createRandom } from "../support/checker/random.ts";
import { eventRules } from "../support/checker/rules-events.ts";
import { listRules } from "../support/checker/rules-lists.ts";
import { messageRules } from "../support/checker/rules-messages.ts";
import { missedRules } from "../support/checker/rules-missed.ts";
import { toldRules } from "../support/checker/rules-told.ts";
import { cursorAt } from "../support/cursors.ts";
import { firstCursor, type HistoryWriter, historyOf, message } from "../support/histories.ts";

const [one, two, three] = [message(1), message(2), message(3)];
type Scene = Parameters<Parameters<typeof historyOf>[0]>[0];

/** The phone sends, everybody else gets it. */
function sendToAll({ phone, laptop, ben }: Scene, ...messages: (typeof one)[]): void {
  for (const sent of messages) {
    phone.send(sent);
    laptop.see(sent);
    ben.see(sent);
  }
}

const at = (position: number) => cursorAt(firstCursor, position);
const soundLog = [one, two, three];
const fromBen = message(2, { by: "ben" });
const receipt = (seq: number, upToSeq: number, type = "message.read") => ({
  ...message(seq, { key: `receipt${seq}` }),
  type,
  payload: { conversation_id: "c1", user_id: "ben", message_ids: [], up_to_seq: upToSeq },
});

/** Ben's device leaves and comes back from a cursor. */
function comeBack({ ben, writer }: Scene, { cursor, seen }: { cursor: string; seen?: Record<string, number> }) {
  ben.close();
  const again = writer.connect(writer.history.devices[2]!, { since: cursor });
  const request = again.request("subscribe", { topics: ["conversation"], since: { cursor, seen } });
  return {
    again,
    live(newPosition: number, place: object = {}) {
      const topics = [{ topic: "conversation:c1", seq: 3, recovered: true, replayed: 0, ...place }];
      again.reply(request, "subscribed", { topics, rejected: [], cursor: at(newPosition) });
      again.hear("presence.online", { user_id: "anna", status: "online" });
    },
  };
}

const withCall = (happens: (scene: Scene & { writer: HistoryWriter }) => void) => () =>
  historyOf((scene) => {
    scene.phone.exchange(["call.offer", { call_id: "k1" }], ["ack"]);
    scene.ben.hear("call.incoming", { call_id: "k1" });
    happens(scene);
  });
const ended = { call_id: "k1", reason: "hangup" };
const callsOf = (user: string, ids: string[]) => ({
  topics: [{ topic: `calls:${user}`, snapshot: { calls: ids.map((call_id) => ({ call_id })) } }],
});

describe("sound histories", () => {
  const sound: [string, () => History][] = [
    ["nothing happens", () => historyOf(() => {})],
    ["messages reach everybody", () => historyOf((scene) => sendToAll(scene, ...soundLog), { log: soundLog })],
    [
      "a resume brings the overlap that was asked for, and what came meanwhile",
      () =>
        historyOf(
          (scene) => {
            sendToAll(scene, one);
            const { again, live } = comeBack(scene, { cursor: at(5), seen: {} });
            for (const sent of [two, three]) {
              scene.phone.send(sent);
              scene.laptop.see(sent);
            }
            again.see(one, two, three);
            live(30);
          },
          { log: soundLog },
        ),
    ],
    [
      "an own message comes in a replay, below what was seen before",
      () =>
        historyOf(
          ({ phone, laptop, ben, writer }) => {
            phone.send(one);
            ben.send(fromBen);
            phone.see(fromBen);
            laptop.see(one, fromBen);
            ben.see(one);
            phone.exchange(["ack", { cursor: at(0) }], ["ack", { cursor: at(0) }]);
            phone.close();
            const again = writer.connect(writer.history.devices[0]!, { since: "acked" });
            const request = again.request("subscribe", { topics: ["conversation"], since: "acked" });
            again.see(one, fromBen);
            again.reply(request, "subscribed", { topics: [], rejected: [], cursor: at(20) });
            again.hear("presence.online", { user_id: "ben", status: "online" });
          },
          { log: [one, fromBen] },
        ),
    ],
    [
      "a log goes back, and its cursors are of another epoch",
      () =>
        historyOf(({ ben }) => {
          ben.exchange(["ping"], ["pong", { cursor: at(90) }]);
          ben.exchange(["ping"], ["pong", { cursor: "e1111111.5" }]);
          ben.exchange(["ack", { cursor: "e1111111.5" }], ["ack", { cursor: "e1111111.5" }]);
        }),
    ],
    [
      "a member is taken out while somebody asks for the presence of all members",
      () =>
        historyOf(({ ben, writer }) => {
          writer.history.ghosts = ["ghost1"];
          const rejected = [{ topic: "presence:ghost1", code: "forbidden" }];
          ben.exchange(["subscribe", { topics: [] }], ["subscribed", { topics: [], rejected, cursor: at(0) }]);
        }),
    ],
    [
      "receipts were compacted",
      () => historyOf((scene) => sendToAll(scene, one, three), { log: [one, three, receipt(5, 3)] }),
    ],
    [
      "a call dies with the memory of a lone node",
      () =>
        historyOf(({ phone, writer }) => {
          phone.exchange(["call.offer", { call_id: "k1" }], ["ack"]);
          writer.history.memoryLosses.push({ from: writer.next(), to: writer.next() });
          phone.exchange(["call.hangup", { call_id: "k1" }], ["error", { code: "call_not_found", retryable: false }]);
        }),
    ],
    [
      "a call's end is told twice where Redis and a node have lost it in the same moment",
      withCall(({ phone, ben, writer }) => {
        phone.hear("call.ended", ended);
        const [from, to] = [writer.next(), writer.next() + 1];
        writer.history.memoryLosses.push({ from, to: to + 1, of: "node" }, { from: from + 1, to, of: "Redis" });
        for (const device of [phone, ben]) device.hear("call.ended", ended);
      }),
    ],
    [
      "a device that was away at a call's end was not told",
      () =>
        historyOf(({ phone, ben, laptop, writer }) => {
          phone.exchange(["call.offer", { call_id: "k1" }], ["ack"]);
          laptop.hear("call.incoming", { call_id: "k1" });
          laptop.close();
          ben.exchange(["call.hangup", { call_id: "k1" }], ["ack"]);
          phone.hear("call.ended", { call_id: "k1", reason: "hangup" });
          const again = writer.connect(writer.history.devices[1]!);
          again.live();
          again.hear("presence.online", { user_id: "ben", status: "online" });
        }),
    ],
    [
      "a device that comes back to no call any more need not be told of its end, however late others are",
      withCall(({ ben, phone, writer }) => {
        ben.close();
        const again = writer.connect(writer.history.devices[2]!);
        again.hear("subscribed", callsOf("ben", []));
        again.live();
        again.hear("presence.online", { user_id: "anna", status: "online" });
        phone.hear("call.ended", ended);
      }),
    ],
  ];
  for (const [what, history] of sound) test(`[LOG3] ${what}`, () => expect(judge(history())).toEqual([]));
});

/** Ben looks at the present once all is at rest. */
function withLook(history: History, topic: object): History {
  const order = history.rest!.order + 10;
  const presence = { topic: "presence:anna", snapshot: { presence: { user_id: "anna", status: "online" } } };
  const payload = { topics: [topic, presence], rejected: [], cursor: at(30) };
  const message = { id: "x", type: "subscribed", payload, timestamp: "", reply_to: "last" };
  history.devices[2]!.connections[0]!.entries.push(
    { order, kind: "request", id: "last", type: "subscribe", payload: {} },
    { order: order + 1, kind: "message", message },
  );
  return history;
}

const inLog = (happens: (scene: Scene) => void, log: object[] = soundLog) => historyOf(happens, { log });
const cases: BrokenHistory[] = [
  {
    rule: "acked-delivered",
    what: "[LOG1] an acknowledged message never came to one device",
    history: () =>
      inLog((scene) => {
        sendToAll(scene, one, two);
        scene.phone.send(three);
        scene.laptop.see(three);
      }),
    also: ["no-holes"],
  },
  {
    rule: "acked-delivered",
    what: "[LOG1] an acknowledged message came to nobody and is not in the log",
    history: () =>
      inLog(
        (scene) => {
          sendToAll(scene, one, two);
          scene.phone.send(three);
        },
        [one, two],
      ),
    also: ["no-holes", "pages-whole"],
  },
  {
    rule: "no-holes",
    what: "[LOG3] one misses a message that was not acknowledged",
    history: () =>
      inLog(
        (scene) => {
          sendToAll(scene, one);
          const { conversation_id, client_message_id, content } = two.payload;
          scene.phone.request("message.send", { conversation_id, client_message_id, content });
          scene.phone.close();
          scene.laptop.see(two);
        },
        [one, two],
      ),
    also: ["everybody-back"],
  },
  {
    rule: "no-holes",
    what: "[LOG1] a number is missing in the log",
    history: () => inLog((scene) => sendToAll(scene, one, three), [one, three]),
  },
  {
    rule: "no-holes",
    what: "[LOG5] a resume was not recovered",
    history: () =>
      inLog((scene) => {
        sendToAll(scene, ...soundLog);
        comeBack(scene, { cursor: at(30) }).live(30, { recovered: false });
      }),
  },
  {
    rule: "same-order",
    what: "[LOG3] two messages are swapped",
    history: () =>
      inLog(({ phone, laptop, ben }) => {
        for (const sent of soundLog) phone.send(sent);
        laptop.see(...soundLog);
        ben.see(one, three, two);
      }),
  },
  {
    rule: "same-order",
    what: "[LOG3] two devices see different events in one place",
    history: () =>
      inLog(
        (scene) => {
          sendToAll(scene, one);
          scene.phone.send(two);
          scene.laptop.see(two);
          scene.ben.see({ ...two, timestamp: "later" });
        },
        [one, two],
      ),
  },
  {
    rule: "same-order",
    what: "[ENV2] an event has another id the second time",
    history: () => inLog((scene) => sendToAll(scene, one), [{ ...one, id: "another" }]),
    also: ["no-holes"],
  },
  {
    rule: "same-order",
    what: "[LOG1] positions do not grow with seq",
    history: () => {
      const early = message(2, { position: 5 });
      return inLog((scene) => sendToAll(scene, one, early), [one, early]);
    },
  },
  {
    rule: "same-order",
    what: "[LOG3] a resume goes back to what was not asked for",
    history: () =>
      inLog((scene) => {
        scene.phone.send(one);
        scene.laptop.see(one);
        sendToAll(scene, two, three);
        const { again, live } = comeBack(scene, { cursor: at(30) });
        again.see(one);
        live(30);
      }),
  },
  {
    rule: "no-duplicate",
    what: "[LOG3] an event comes twice on one connection",
    history: () =>
      inLog(
        (scene) => {
          sendToAll(scene, one);
          scene.ben.see(one);
        },
        [one],
      ),
    also: ["same-order"],
  },
  {
    rule: "no-duplicate",
    what: "[LOG4] a resume brings again what was said to be seen",
    history: () =>
      inLog(
        (scene) => {
          sendToAll(scene, one, two);
          const { again, live } = comeBack(scene, { cursor: at(15), seen: { "conversation:c1": 2 } });
          again.see(two);
          live(20);
        },
        [one, two],
      ),
    also: ["same-order"],
  },
  {
    rule: "nothing-invented",
    what: "[MSG1] a message that nobody sent",
    history: () =>
      inLog(
        ({ phone, laptop, ben }) => {
          for (const device of [phone, laptop, ben]) device.see(one);
        },
        [one],
      ),
  },
  {
    rule: "nothing-invented",
    what: "[MSG1] a message with another content",
    history: () => {
      const altered = message(1, { content: "altered" });
      return inLog(
        ({ phone, laptop, ben }) => {
          phone.send(one);
          for (const device of [laptop, ben]) device.see(altered);
        },
        [altered],
      );
    },
    also: ["as-it-was", "same-conversation"],
  },
  {
    rule: "retry-once",
    what: "[LOG2] a retry is there twice",
    history: () => {
      const again = { ...message(2, { key: "m1" }), id: "id-again" };
      return inLog((scene) => sendToAll(scene, one, again), [one, again]);
    },
  },
  {
    rule: "retry-once",
    what: "[LOG2] a retry is taken for new",
    history: () =>
      inLog(
        (scene) => {
          sendToAll(scene, one);
          scene.phone.send(one);
        },
        [one],
      ),
  },
  {
    rule: "forward-only",
    what: "[LOG4] a cursor goes back",
    history: () =>
      historyOf(({ ben }) => {
        ben.exchange(["ping"], ["pong", { cursor: at(9) }]);
        ben.exchange(["ping"], ["pong", { cursor: at(8) }]);
      }),
  },
  {
    rule: "forward-only",
    what: "[LOG6] an acknowledgement goes back",
    history: () =>
      historyOf(({ ben }) => {
        ben.exchange(["ack", { cursor: at(9) }], ["ack", { cursor: at(9) }]);
        ben.exchange(["ack", { cursor: at(5) }], ["ack", { cursor: at(5) }]);
      }),
  },
  {
    rule: "forward-only",
    what: "[LOG6] an acknowledgement does not count",
    history: () => historyOf(({ ben }) => ben.exchange(["ack", { cursor: at(9) }], ["ack", { cursor: at(5) }])),
  },
  {
    rule: "forward-only",
    what: "[REC1] a watermark goes back",
    history: () =>
      historyOf(({ ben }) => {
        for (const up_to_seq of [3, 2]) ben.exchange(["mark.read", { conversation_id: "c1" }], ["ack", { up_to_seq }]);
      }),
  },
  {
    rule: "forward-only",
    what: "[REC3] a mark of another device was forgotten",
    history: () =>
      historyOf(({ phone, laptop }) => {
        phone.exchange(["mark.read", { conversation_id: "c1" }], ["ack", { up_to_seq: 3 }]);
        laptop.live({ snapshot: { read_seq: 2, delivered_seq: 3 } });
      }),
  },
  {
    rule: "forward-only",
    what: "[REC2] read does not imply delivered",
    history: () =>
      historyOf(({ phone, laptop }) => {
        phone.exchange(["mark.read", { conversation_id: "c1" }], ["ack", { up_to_seq: 3 }]);
        laptop.live({ snapshot: { read_seq: 3, delivered_seq: 2 } });
      }),
  },
  {
    rule: "forward-only",
    what: "[REC2] receipts go back in the log",
    history: () => {
      const receipts = [receipt(1, 3), receipt(2, 2)];
      return inLog(({ phone, laptop }) => {
        for (const device of [phone, laptop]) device.see(...receipts);
      }, receipts);
    },
  },
  {
    rule: "cursor-true",
    what: "[LOG4] an event comes after the cursor that speaks for it",
    history: () =>
      inLog(
        (scene) => {
          scene.ben.exchange(["ping"], ["pong", { cursor: at(10) }]);
          sendToAll(scene, one);
        },
        [one],
      ),
  },
  {
    rule: "unread-true",
    what: "[REC3] unread is not what is unread",
    history: () =>
      withLook(
        inLog((scene) => sendToAll(scene, ...soundLog)),
        { topic: "conversation:c1", snapshot: { read_seq: 1, delivered_seq: 1, unread: 3 } },
      ),
  },
  {
    rule: "one-reply",
    what: "[ENV3] two replies",
    history: () =>
      historyOf(({ ben }) => {
        const id = ben.request("ping");
        for (let time = 0; time < 2; time++) ben.reply(id, "pong", { cursor: at(0) });
      }),
  },
  {
    rule: "one-reply",
    what: "[ENV3] a reply to nothing",
    history: () => historyOf(({ ben }) => ben.reply("never", "pong", { cursor: at(0) })),
  },
  {
    rule: "one-reply",
    what: "[ENV7] replies out of turn",
    history: () =>
      historyOf(({ ben }) => {
        const [first, second] = [ben.request("ping"), ben.request("ping")];
        for (const id of [second, first]) ben.reply(id, "pong", { cursor: at(0) });
      }),
  },
  {
    rule: "every-reply",
    what: "[ENV3] no reply on a connection that is open",
    history: () => historyOf(({ ben }) => void ben.request("ping")),
  },
  {
    rule: "no-fault",
    what: "[ENV4] a refusal without a reason",
    history: () => historyOf(({ ben }) => ben.exchange(["ping"], ["error", { code: "internal", retryable: false }])),
  },
  {
    rule: "no-fault",
    what: "[MSG2] an edit is a conflict though nobody has deleted the message",
    history: () =>
      inLog(
        (scene) => {
          sendToAll(scene, one);
          const edit = { conversation_id: "c1", message_id: one.id, content: "edited" };
          scene.phone.exchange(["message.edit", edit], ["error", { code: "conflict", retryable: false }]);
        },
        [one],
      ),
  },
  {
    rule: "no-fault",
    what: "[SUB1] a member is rejected",
    history: () =>
      historyOf(({ ben }) => {
        const rejected = [{ topic: "conversation:c1", code: "forbidden" }];
        ben.exchange(["subscribe", { topics: [] }], ["subscribed", { topics: [], rejected, cursor: at(0) }]);
      }),
  },
  {
    rule: "no-fault",
    what: "[ENV5] sent away for good",
    history: () =>
      historyOf(({ ben, writer }) => {
        ben.close(4001, { byClient: false });
        const again = writer.connect(writer.history.devices[2]!);
        again.live();
        again.hear("presence.online", { user_id: "anna", status: "online" });
      }),
  },
  {
    rule: "everybody-back",
    what: "[ENV5] a device never comes back",
    history: () => historyOf(({ ben }) => ben.close()),
  },
  {
    rule: "everybody-back",
    what: "[LOG5] a device is connected and never live",
    history: () =>
      historyOf(({ ben, writer }) => {
        ben.close();
        const again = writer.connect(writer.history.devices[2]!);
        again.hear("presence.online", { user_id: "anna", status: "online" });
      }),
  },
  {
    rule: "one-answer",
    what: "[CALL2] two devices have answered",
    history: withCall(({ phone, laptop, ben }) => {
      for (const device of [laptop, ben]) device.exchange(["call.answer", { call_id: "k1" }], ["ack"]);
      for (const device of [phone, ben]) device.hear("call.ended", ended);
    }),
  },
  {
    rule: "one-answer",
    what: "[CALL2] the caller hears two answers",
    history: withCall(({ phone, ben }) => {
      for (const sdp of ["one", "two"]) phone.hear("call.answer", { call_id: "k1", sdp });
      for (const device of [phone, ben]) device.hear("call.ended", ended);
    }),
  },
  {
    rule: "one-end",
    what: "[CALL4] the end is told twice",
    history: withCall(({ phone, ben }) => {
      for (const device of [phone, ben, ben]) device.hear("call.ended", ended);
    }),
  },
  {
    rule: "one-end",
    what: "[CALL4] the end is told twice, and what lost its memory did so one after the other",
    history: withCall(({ phone, ben, writer }) => {
      for (const of of ["node", "Redis"] as const)
        writer.history.memoryLosses.push({ from: writer.next(), to: writer.next(), of });
      for (const device of [phone, ben, ben]) device.hear("call.ended", ended);
    }),
  },
  {
    rule: "every-end",
    what: "[CALL4] the end is not told to one who rang",
    history: withCall(({ phone }) => {
      phone.exchange(["call.hangup", { call_id: "k1" }], ["ack"]);
      phone.hear("call.ended", ended);
    }),
  },
  {
    rule: "every-end",
    what: "[CALL4] [CALL7] the end is not told to one who came back while it rang",
    history: withCall(({ phone, ben, writer }) => {
      ben.close();
      const again = writer.connect(writer.history.devices[2]!);
      again.hear("subscribed", callsOf("ben", ["k1"]));
      again.live();
      again.hear("presence.online", { user_id: "anna", status: "online" });
      phone.hear("call.ended", ended);
    }),
  },
  { rule: "every-end", what: "[CALL4] a call never ends", history: withCall(() => {}) },
  {
    rule: "nobody-types",
    what: "[TYP2] somebody is left typing, by events",
    history: () => historyOf(({ ben }) => ben.hear("typing.start", { conversation_id: "c1", user_id: "anna" })),
  },
  {
    rule: "nobody-types",
    what: "[TYP2] somebody is left typing, by the snapshot",
    history: () =>
      withLook(
        historyOf(() => {}),
        { topic: "typing:c1", snapshot: { typing: [{ user_id: "anna", conversation_id: "c1" }] } },
      ),
  },
  {
    rule: "presence-true",
    what: "[PRE5] somebody is seen as something else, by the snapshot",
    history: () =>
      withLook(
        historyOf(({ ben }) => ben.hear("presence.update", { user_id: "anna", status: "busy" }), {
          statuses: { anna: "busy" },
        }),
        { topic: "typing:c1", snapshot: { typing: [] } },
      ),
  },
  {
    rule: "presence-true",
    what: "[PRE1] somebody who left is still seen",
    history: () => historyOf(({ ben }) => ben.close(1000), { statuses: { ben: "offline" } }),
  },
  {
    rule: "presence-differs",
    what: "[PRE3] somebody is told what is known: by an event",
    history: () =>
      historyOf(
        ({ ben }) => {
          ben.hear("presence.update", { user_id: "anna", status: "busy", status_text: "a" });
          ben.hear("presence.update", { user_id: "anna", status: "busy", status_text: "b" });
          ben.hear("presence.update", { user_id: "anna", status: "busy", status_text: "b" });
        },
        { statuses: { anna: "busy" } },
      ),
  },
  {
    rule: "presence-differs",
    what: "[PRE5] somebody is told what is known: by the snapshot",
    history: () => {
      const presence = { user_id: "ben", status: "offline", last_seen: "2026-01-01T00:00:00.000Z" };
      return historyOf(({ phone, ben }) => {
        const topics = [{ topic: "presence:ben", snapshot: { presence } }];
        phone.exchange(["subscribe", { topics: ["presence:ben"] }], ["subscribed", { topics, rejected: [] }]);
        phone.hear("presence.offline", { user_id: "ben" });
        phone.hear("presence.online", { user_id: "ben", status: "online" });
        ben.hear("presence.online", { user_id: "ben", status: "online" });
        ben.hear("presence.online", { user_id: "ben", status: "online" });
      }, {});
    },
  },
  {
    rule: "presence-damped",
    what: "[PRE3] somebody is told too often",
    history: () =>
      historyOf(
        ({ ben }) => {
          const hear = (status: string, timestamp: string) =>
            ben.see({ id: timestamp, type: "presence.update", payload: { user_id: "anna", status }, timestamp });
          hear("away", "2026-01-01T00:00:00.000Z");
          hear("busy", "2026-01-01T00:00:01.000Z");
          hear("away", "2026-01-01T00:00:01.700Z");
        },
        { statuses: { anna: "away" } },
      ),
  },
  {
    rule: "presence-true",
    what: "[PRE2] somebody is seen as something else",
    history: () =>
      historyOf(({ ben }) => ben.hear("presence.update", { user_id: "anna", status: "away" }), {
        statuses: { anna: "busy" },
      }),
  },
];

describe("broken histories", () => {
  proveBroken(cases);

  test("[LOG3] there is one for every rule, here or beside", () => {
    const beside = new Set(
      [...messageRules, ...missedRules, ...listRules, ...eventRules, ...toldRules].map(({ id }) => id),
    );
    const here = rules.map(({ id }) => id).filter((id) => !beside.has(id));
    expect([...new Set(cases.map(({ rule }) => rule))].sort()).toEqual(here.sort());
  });
});

test("[LOG3] a run that has not come to rest is only judged by what is wrong already", () => {
  const history = { ...cases[0]!.history(), rest: null };
  expect(judge(history)).toEqual([]);
});

test("[LOG3] a report says the seed, the rule and the history that breaks it", () => {
  const history = cases[0]!.history();
  const text = report({ seed: 42, violations: judge(history), history });
  expect(text).toContain("seed 42");
  expect(text).toContain("acked-delivered");
  expect(text).toContain("ben/bens never got m3");
  expect(text).toContain("id-m3");
});

test("[LOG3] one seed makes one chance", () => {
  const drawn = (seed: number) =>
    Array.from({ length: 5 }, () => createRandom(seed).fork("part").between(0, 1_000_000));
  expect(drawn(7)).toEqual(drawn(7));
  expect(drawn(7)).not.toEqual(drawn(8));
});
