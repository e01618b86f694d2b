/** The checker's rules of own events and of members can fail: a broken history by hand for each, and sound ones that look suspicious [MSG4] [MEM1] [MSG5]. */
import { describe, expect, test } from "bun:test";
import { type BrokenHistory, proveBroken } from "../support/broken-history.ts";
import type { History } from "../support/checker/history.ts";
import { judge } from "../support/checker/judge.ts";
import { eventRules } from "../support/checker/rules-events.ts";
import { type ConnectionWriter, historyOf } from "../support/histories.ts";

type Scene = Parameters<Parameters<typeof historyOf>[0]>[0] & { backend: ConnectionWriter };

const vote = {
  ...{ id: "e1", type: "poll.vote", topic: "conversation:c1", seq: 1, position: 10, timestamp: "" },
  payload: { conversation_id: "c1", user_id: "anna", client_event_id: "v1", data: { choice: 1 } },
};
const recording = { conversation_id: "c1", user_id: "anna", client_event_id: "v2", data: { choice: 2 } };

/** A poll's votes are logged, and that somebody records is not; a ghost comes and goes by a backend's hand. */
function scene(happens: (scene: Scene) => void, { log = [], members = ["anna", "ben"], muted = [] as string[] } = {}) {
  const history = historyOf(
    (it) => {
      const { writer } = it;
      Object.assign(writer.history, {
        ownEvents: { "poll.vote": { logged: true }, "voice.recording": { logged: false } },
        ghosts: ["ghost"],
      });
      const backend = writer.connect(writer.addDevice("backend", "b1"));
      backend.exchange(["subscribe", { topics: ["missed"] }], ["subscribed", { topics: [], rejected: [] }]);
      happens({ ...it, backend });
    },
    { log },
  );
  const order = history.rest!.order + 10;
  const payload = { conversation_id: "c1", user_ids: members, may_not_write: muted, next: null };
  history.devices[2]!.connections[0]!.entries.push(
    { order, kind: "request", id: "members", type: "members", payload: { conversation_id: "c1" } },
    { order, kind: "message", message: { id: "m", type: "members", payload, timestamp: "", reply_to: "members" } },
  );
  return history;
}

const send = ({ phone }: Scene, { type, payload, ...place }: any) =>
  phone.exchange(
    ["event.send", { conversation_id: "c1", type, payload: payload.data, client_event_id: payload.client_event_id }],
    ["ack", place],
  );
const record = (scene: Scene) => send(scene, { type: "voice.recording", payload: recording });
const hearAll = ({ phone, laptop, ben }: Scene, type: string, rest: object = {}) => {
  for (const it of [phone, laptop, ben]) it.hear(type, { conversation_id: "c1", user_id: "ghost", at: "", ...rest });
};
const admin = ({ backend }: Scene, type: string, rest: object = { user_ids: ["ghost"] }) =>
  backend.exchange([`admin.members.${type}`, { conversation_id: "c1", ...rest }], ["ack"]);
const withGhost = { members: ["anna", "ben", "ghost"] };
const logOf = (...events: object[]) => ({ log: events as never[] });

describe("sound histories", () => {
  const sound: [string, () => History][] = [
    [
      "[MSG4] events that are logged, and that are not",
      () =>
        scene((it) => {
          send(it, vote);
          record(it);
          for (const other of [it.laptop, it.ben]) {
            other.see(vote);
            other.hear("voice.recording", recording);
          }
        }, logOf(vote)),
    ],
    [
      "[MSG4] one that is not logged may get lost",
      () =>
        scene((it) => {
          record(it);
          it.ben.hear("voice.recording", recording);
        }),
    ],
    [
      "[MEM1] somebody is added, kept from writing, and stays",
      () =>
        scene(
          (it) => {
            admin(it, "add");
            hearAll(it, "member.added");
            admin(it, "update", { user_id: "ghost", may_write: false });
            hearAll(it, "member.updated", { may_write: false });
          },
          { ...withGhost, muted: ["ghost"] },
        ),
    ],
    [
      "[MEM1] somebody is added and removed at once, and nobody is told",
      () =>
        scene((it) => {
          admin(it, "add");
          admin(it, "remove");
        }),
    ],
    [
      "[MEM1] a change that was never answered is there, or is not",
      () =>
        scene((it) => {
          it.backend.request("admin.members.add", { conversation_id: "c1", user_ids: ["ghost"] });
          it.backend.close();
          const again = it.writer.connect(it.writer.history.devices[3]!);
          again.exchange(["subscribe", { topics: ["missed"] }], ["subscribed", { topics: [], rejected: [] }]);
          hearAll(it, "member.added");
        }, withGhost),
    ],
    [
      "[LOG4] a change is gone with the log that held it",
      () =>
        scene((it) => {
          const { writer } = it;
          writer.history.logLosses.push({ from: writer.next() });
          const loss = { from: writer.next(), to: Number.POSITIVE_INFINITY };
          writer.history.memoryLosses.push(loss);
          admin(it, "add");
          hearAll(it, "member.added");
          loss.to = writer.next();
        }),
    ],
  ];
  for (const [what, history] of sound) test(what, () => expect(judge(history())).toEqual([]));
});

const cases: BrokenHistory[] = [
  {
    rule: "own-events",
    what: "[MSG4] an event that nobody has sent",
    history: () => scene(({ ben }) => ben.hear("voice.recording", recording)),
  },
  {
    rule: "own-events",
    what: "[MSG4] an event with other data",
    history: () =>
      scene((it) => {
        record(it);
        it.ben.hear("voice.recording", { ...recording, data: {} });
      }),
  },
  {
    rule: "own-events",
    what: "[SUB6] an event comes to the connection that sent it",
    history: () =>
      scene((it) => {
        record(it);
        it.phone.hear("voice.recording", recording);
      }),
  },
  {
    rule: "own-events",
    what: "[MSG4] an event comes twice",
    history: () =>
      scene((it) => {
        record(it);
        const event = { id: "e2", type: "voice.recording", payload: recording, timestamp: "" };
        it.ben.see(event, event);
      }),
  },
  {
    rule: "own-events",
    what: "[MSG4] an event that is not logged has a place in the log",
    history: () =>
      scene(
        (it) => {
          const logged = { ...vote, type: "voice.recording", payload: recording };
          send(it, logged);
          for (const other of [it.laptop, it.ben]) other.see(logged);
        },
        logOf({ ...vote, type: "voice.recording", payload: recording }),
      ),
  },
  {
    rule: "members-told",
    what: "[MEM1] somebody is said to come whom nobody has added",
    history: () => scene((it) => it.ben.hear("member.added", { conversation_id: "c1", user_id: "ghost", at: "" })),
  },
  {
    rule: "members-told",
    what: "[MEM1] one who was there all the time is never told of an end",
    history: () =>
      scene((it) => {
        admin(it, "add");
        hearAll(it, "member.added");
        admin(it, "remove");
      }),
  },
  {
    rule: "members-told",
    what: "[MEM1] nobody is told of who comes",
    history: () => scene((it) => admin(it, "add"), withGhost),
  },
  {
    rule: "members-told",
    what: "[MSG5] it is told otherwise who may write",
    history: () =>
      scene(
        (it) => {
          admin(it, "add");
          hearAll(it, "member.added");
          admin(it, "update", { user_id: "ghost", may_write: false });
          hearAll(it, "member.updated", { may_write: true });
        },
        { ...withGhost, muted: ["ghost"] },
      ),
  },
  {
    rule: "members-true",
    what: "[MEM1] one who was added is no member",
    history: () =>
      scene((it) => {
        admin(it, "add");
        hearAll(it, "member.added");
      }),
  },
  {
    rule: "members-true",
    what: "[MSG5] one who may not write is not named",
    history: () =>
      scene((it) => {
        admin(it, "add");
        hearAll(it, "member.added");
        admin(it, "update", { user_id: "ghost", may_write: false });
        hearAll(it, "member.updated", { may_write: false });
      }, withGhost),
  },
  {
    rule: "members-true",
    what: "[MEM1] a stranger is a member",
    history: () => scene(() => {}, { members: ["anna", "ben", "cleo"] }),
  },
];

describe("broken histories", () => {
  proveBroken(cases);

  test("[MSG4] there is one for every rule", () => {
    expect([...new Set(cases.map(({ rule }) => rule))].sort()).toEqual(eventRules.map(({ id }) => id).sort());
  });
});
