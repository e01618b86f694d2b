/** The checker's rules of lists and pages can fail: a broken history by hand for each, and sound ones that look suspicious [REC3] [LOG8]. */
import { describe, expect, test } from "bun:test";
import { type BrokenHistory, proveBroken } from "../support/broken-history.ts";
import type { History } from "../support/checker/history.ts";
import { judge } from "../support/checker/judge.ts";
import { listRules } from "../support/checker/rules-lists.ts";
import { type ConnectionWriter, deletion, firstCursor, historyOf, message, rowOf } from "../support/histories.ts";

type Scene = Parameters<Parameters<typeof historyOf>[0]>[0];
const [one, two, three] = [message(1), message(2), message(3)];
const messages = [one, two, three];
const gone = deletion(4, two);

function send({ phone, laptop, ben }: Scene, ...sent: (typeof one)[]): void {
  for (const it of sent) {
    phone.send(it);
    for (const other of [laptop, ben]) other.see(it);
  }
}

function remove({ phone, laptop, ben }: Scene): void {
  phone.change(gone);
  for (const other of [laptop, ben]) other.see(gone);
}

const answer = (snapshot: object) => ({
  ...{ topics: [{ topic: "conversation:c1", seq: 9, snapshot }], rejected: [], cursor: firstCursor },
});
const list = (connection: ConnectionWriter, snapshot: object) =>
  connection.exchange(["subscribe", { topics: ["conversation"] }], ["subscribed", answer(snapshot)]);
const place = (last: object | null, unread: number, rest: object = {}) => ({
  ...{ read_seq: 0, delivered_seq: 0, unread, last_message: last, receipts: [], ...rest },
});
const mark = (connection: ConnectionWriter, up_to_seq: number, { type = "mark.read", unread = 0, ...rest } = {}) =>
  connection.exchange([type, { conversation_id: "c1", up_to_seq, ...rest }], ["ack", { up_to_seq, unread }]);
const page = (connection: ConnectionWriter, request: object, events: object[], has_more = false) =>
  connection.exchange(
    ["history", { topic: "conversation:c1", ...request }],
    ["history", { topic: "conversation:c1", events, has_more }],
  );

const inLog = (happens: (scene: Scene) => void, log: object[] = messages) => historyOf(happens, { log });
const sentAll = (happens: (scene: Scene) => void) => () =>
  inLog((scene) => {
    send(scene, ...messages);
    happens(scene);
  });

describe("sound histories", () => {
  const sound: [string, () => History][] = [
    ["[REC3] a list of one conversation", sentAll(({ ben }) => list(ben, place(three, 3)))],
    [
      "[REC3] a list that was asked for before a message was there counts neither or both",
      () =>
        inLog((scene) => {
          send(scene, one, two);
          const requests = [1, 2].map(() => scene.ben.request("subscribe", { topics: ["conversation"] }));
          send(scene, three);
          scene.ben.reply(requests[0]!, "subscribed", answer(place(two, 2)));
          scene.ben.reply(requests[1]!, "subscribed", answer(place(three, 3)));
        }),
    ],
    [
      "[MSG2] what is deleted is not unread, and still the newest",
      () =>
        inLog(
          (scene) => {
            send(scene, one, two);
            remove(scene);
            list(scene.ben, place(rowOf(two, gone), 1));
          },
          [one, rowOf(two, gone), gone].map((event, index) => (index === 2 ? { ...event, seq: 4 } : event)),
        ),
    ],
    [
      "[REC3] others' receipts, and not how far one has read for oneself",
      sentAll(({ ben, phone, laptop }) => {
        mark(ben, 1, { type: "mark.delivered", unread: 3 });
        mark(ben, 2, { unread: 1 });
        mark(ben, 3, { private: true } as object);
        list(phone, place(three, 0, { receipts: [{ user_id: "ben", read_seq: 2, delivered_seq: 2 }] }));
        const request = laptop.request("subscribe", { topics: ["conversation"] });
        mark(ben, 3);
        const receipts = [{ user_id: "ben", read_seq: 3, delivered_seq: 3 }];
        laptop.reply(request, "subscribed", answer(place(three, 0, { receipts })));
      }),
    ],
    [
      "[LOG8] pages forwards, backwards and of one type",
      sentAll(({ ben }) => {
        page(ben, { after_seq: 1, limit: 1 }, [two], true);
        page(ben, { before_seq: 3, limit: 1 }, [two], true);
        page(ben, { limit: 2 }, [two, three], true);
        page(ben, { types: ["message.read"] }, []);
      }),
    ],
  ];
  for (const [what, history] of sound) test(what, () => expect(judge(history())).toEqual([]));
});

const cases: BrokenHistory[] = [
  {
    rule: "list-true",
    what: "[REC3] a last message is not the newest",
    history: sentAll(({ ben }) => list(ben, place(two, 2))),
  },
  { rule: "list-true", what: "[REC3] no last message", history: sentAll(({ ben }) => list(ben, place(null, 0))) },
  { rule: "list-true", what: "[REC3] too few unread", history: sentAll(({ ben }) => list(ben, place(three, 2))) },
  {
    rule: "list-true",
    what: "[REC3] own ones are unread",
    history: sentAll(({ phone }) => list(phone, place(three, 3))),
  },
  {
    rule: "list-true",
    what: "[MSG2] what was deleted before is unread",
    history: () =>
      inLog(
        (scene) => {
          send(scene, one, two, three);
          remove(scene);
          list(scene.ben, place(three, 3));
        },
        [one, rowOf(two, gone), three, gone],
      ),
  },
  {
    rule: "list-true",
    what: "[REC3] a message up to its number is not counted",
    history: sentAll(({ ben }) => {
      const request = ben.request("subscribe", { topics: ["conversation"] });
      ben.reply(request, "subscribed", answer(place(null, 0, { as_of_seq: 3 })));
    }),
  },
  {
    rule: "list-true",
    what: "[MSG2] what is deleted above its number is counted as gone",
    history: () =>
      inLog(
        (scene) => {
          send(scene, one, two, three);
          const request = scene.ben.request("subscribe", { topics: ["conversation"] });
          remove(scene);
          scene.ben.reply(request, "subscribed", answer(place(three, 2, { as_of_seq: 3 })));
        },
        [one, rowOf(two, gone), three, gone],
      ),
  },
  {
    rule: "list-true",
    what: "[REC3] a receipt that was acknowledged is missing",
    history: sentAll(({ ben, phone }) => {
      mark(ben, 3);
      list(phone, place(three, 0));
    }),
  },
  {
    rule: "list-true",
    what: "[REC3] a private read is shown to another",
    history: sentAll(({ ben, phone }) => {
      mark(ben, 3, { private: true } as object);
      list(phone, place(three, 0, { receipts: [{ user_id: "ben", read_seq: 3, delivered_seq: 3 }] }));
    }),
  },
  {
    rule: "list-true",
    what: "[REC3] a receipt of somebody who is no member",
    history: sentAll(({ phone }) =>
      list(phone, place(three, 0, { receipts: [{ user_id: "cleo", read_seq: 0, delivered_seq: 0 }] })),
    ),
  },
  {
    rule: "marks-count",
    what: "[REC3] a mark is answered with too few unread",
    history: sentAll(({ ben }) => mark(ben, 1, { unread: 1 })),
  },
  {
    rule: "marks-count",
    what: "[REC3] a mark is answered with what it has read",
    history: sentAll(({ ben }) => mark(ben, 3, { unread: 1 })),
  },
  {
    rule: "pages-whole",
    what: "[LOG8] a page is empty though there is more",
    history: sentAll(({ ben }) => page(ben, { types: ["poll.vote"] }, [], true)),
  },
  {
    rule: "pages-whole",
    what: "[LOG8] a page lacks a message in its middle",
    history: sentAll(({ ben }) => page(ben, { after_seq: 0, limit: 2 }, [one, three], true)),
  },
  {
    rule: "pages-whole",
    what: "[LOG8] a page that ends the log does not reach it",
    history: sentAll(({ ben }) => page(ben, { after_seq: 1 }, [two])),
  },
  {
    rule: "pages-whole",
    what: "[LOG8] a page has a type that was not asked for",
    history: sentAll(({ ben }) => page(ben, { types: ["message.read"] }, [one])),
  },
  {
    rule: "pages-whole",
    what: "[LOG8] a page is too long",
    history: sentAll(({ ben }) => page(ben, { limit: 2 }, messages)),
  },
];

describe("broken histories", () => {
  proveBroken(cases);

  test("[REC3] there is one for every rule", () => {
    expect([...new Set(cases.map(({ rule }) => rule))].sort()).toEqual(listRules.map(({ id }) => id).sort());
  });
});
