/** The checker's rules of edits, deletions and reactions can fail: a broken history by hand for each, and sound ones that look suspicious. */
import { describe, expect, test } from "bun:test";
import { type BrokenHistory, proveBroken } from "../support/broken-history.ts";
import type { History } from "../support/checker/history.ts";
import { judge } from "../support/checker/judge.ts";
import { messageRules } from "../support/checker/rules-messages.ts";
import { cursorAt } from "../support/cursors.ts";
import {
  type ChangeEvent,
  deletion,
  edit,
  firstCursor,
  historyOf,
  type Message,
  message,
  reaction,
  rowOf,
} from "../support/histories.ts";

type Scene = Parameters<Parameters<typeof historyOf>[0]>[0];
const one = message(1);
const at = (position: number) => cursorAt(firstCursor, position);

/** The phone sends it and everybody has it. */
function send({ phone, laptop, ben }: Scene, sent: Message): void {
  phone.send(sent);
  for (const other of [laptop, ben]) other.see(sent);
}

/** One of the user's devices asks for it, the others hear of it. */
function change({ phone, laptop, ben }: Scene, ...changes: ChangeEvent[]): void {
  for (const event of changes) {
    const device = event.by === "anna" ? phone : ben;
    device.change(event);
    for (const other of [phone, laptop, ben]) if (other !== device) other.see(event);
  }
}

const read = (connection: Scene["ben"], ...events: object[]) =>
  connection.exchange(["history", { topic: "conversation:c1" }], ["history", { events, has_more: false }]);

/** Ben comes back; `replayed` is what he is sent before the answer. */
function comeBack({ ben, writer }: Scene, replayed: object[], place: object = {}): void {
  ben.close();
  const again = writer.connect(writer.history.devices[2]!, { since: at(5) });
  const request = again.request("subscribe", { topics: ["conversation"], since: { cursor: at(5) } });
  again.see(...replayed);
  const topics = [{ topic: "conversation:c1", seq: 9, recovered: true, replayed: replayed.length, ...place }];
  again.reply(request, "subscribed", { topics, rejected: [], cursor: at(90) });
  again.hear("presence.online", { user_id: "anna", status: "online" });
}

/** All is at rest, and the log holds what is given. */
const inLog = (log: object[], happens: (scene: Scene) => void) => historyOf(happens, { log });
const [edit2, edit3, delete4] = [edit(2, one), edit(3, one), deletion(4, one)];
const [like2, unlike3] = [reaction(2, one), reaction(3, one, { added: false })];

describe("sound histories", () => {
  const sound: [string, () => History][] = [
    [
      "[MSG2] a message is edited twice and deleted",
      () =>
        inLog([rowOf(one, delete4), delete4], (scene) => {
          send(scene, one);
          change(scene, edit2);
          read(scene.ben, rowOf(one, edit2), edit2);
          change(scene, edit3, delete4);
          read(scene.ben, rowOf(one, delete4), delete4);
        }),
    ],
    [
      "[MSG2] a page is read while an edit and a deletion are on their way",
      () =>
        inLog([rowOf(one, delete4), delete4], (scene) => {
          send(scene, one);
          const page = scene.ben.request("history", { topic: "conversation:c1" });
          const again = scene.ben.request("history", { topic: "conversation:c1" });
          change(scene, edit2, edit3, delete4);
          const answer = (id: string, ...events: object[]) =>
            scene.ben.reply(id, "history", { topic: "conversation:c1", events, has_more: false });
          answer(page, one);
          answer(again, rowOf(one, edit3), edit3);
        }),
    ],
    [
      "[MSG2] an edit that was never answered is there, or is not",
      () =>
        inLog([rowOf(one, edit3), edit3], (scene) => {
          send(scene, one);
          const ask = (content: string) =>
            scene.phone.request("message.edit", { conversation_id: "c1", message_id: one.id, content });
          ask("never came");
          ask("edit 3");
          scene.phone.close();
          const again = scene.writer.connect(scene.writer.history.devices[0]!);
          again.live({ seq: 3 });
          again.hear("presence.online", { user_id: "ben", status: "online" });
          for (const other of [again, scene.laptop, scene.ben]) other.see(edit3);
        }),
    ],
    [
      "[MSG2] who comes back is sent the text of today, and its edit",
      () =>
        inLog([rowOf(one, edit3), edit3], (scene) => {
          scene.phone.send(one);
          scene.laptop.see(one);
          scene.ben.close();
          for (const event of [edit2, edit3]) {
            scene.phone.change(event);
            scene.laptop.see(event);
          }
          comeBack(scene, [rowOf(one, edit3), edit3]);
        }),
    ],
    [
      "[MSG2] an edit by another overtakes one's own reply, and so does one of a message that is not answered yet",
      () => {
        const byBen = edit(3, one, { by: "ben" });
        const after = message(4);
        return inLog([rowOf(one, byBen), byBen, after], (scene) => {
          const { phone, laptop, ben } = scene;
          const { conversation_id, client_message_id, content } = one.payload;
          const sent = phone.request("message.send", { conversation_id, client_message_id, content });
          const edited = phone.request("message.edit", { ...edit2.payload });
          for (const other of [laptop, ben]) other.see(one, edit2);
          ben.change(byBen);
          for (const other of [phone, laptop]) other.see(byBen);
          const place = (seq: number) => ({ topic: "conversation:c1", seq, position: seq * 10, duplicate: false });
          phone.reply(sent, "ack", { message_id: one.id, ...place(1) });
          phone.reply(edited, "ack", { message_id: one.id, ...place(2) });
          send(scene, after);
        });
      },
    ],
    [
      "[MSG2] what is deleted cannot be edited, and nothing has come of it",
      () =>
        inLog([rowOf(one, delete4), delete4], (scene) => {
          send(scene, one);
          change(scene, delete4);
          scene.phone.exchange(
            ["message.edit", { conversation_id: "c1", message_id: one.id, content: "too late" }],
            ["error", { code: "conflict", retryable: false }],
          );
        }),
    ],
    [
      "[MSG3] a reaction comes and goes",
      () =>
        inLog([rowOf(one, like2, unlike3), unlike3], (scene) => {
          send(scene, one);
          change(scene, like2);
          read(scene.phone, rowOf(one, like2), like2);
          change(scene, unlike3);
        }),
    ],
    [
      "[MSG3] reactions of several go with their message",
      () =>
        inLog([rowOf(one, delete4), delete4], (scene) => {
          send(scene, one);
          change(scene, like2, reaction(3, one, { by: "anna" }), delete4);
        }),
    ],
  ];
  for (const [what, history] of sound) test(what, () => expect(judge(history())).toEqual([]));
});

const cases: BrokenHistory[] = [
  {
    rule: "deleted-gone",
    what: "[MSG2] a page has the text of what was deleted before it was asked for",
    history: () =>
      inLog([rowOf(one, delete4), delete4], (scene) => {
        send(scene, one);
        change(scene, delete4);
        read(scene.ben, one, delete4);
      }),
  },
  {
    rule: "deleted-gone",
    what: "[MSG2] a page has the edit of what was deleted before it was asked for",
    history: () =>
      inLog([rowOf(one, delete4), delete4], (scene) => {
        send(scene, one);
        change(scene, edit2, delete4);
        read(scene.ben, rowOf(one, delete4), edit2, delete4);
      }),
  },
  {
    rule: "deleted-gone",
    what: "[MSG2] a replay has the text of what was deleted before",
    history: () =>
      inLog([rowOf(one, delete4), delete4], (scene) => {
        scene.phone.send(one);
        scene.laptop.see(one);
        scene.phone.change(delete4);
        scene.laptop.see(delete4);
        comeBack(scene, [one, delete4]);
      }),
  },
  {
    rule: "deleted-gone",
    what: "[MSG2] a last message has the text of what was deleted before",
    history: () =>
      inLog([rowOf(one, delete4), delete4], (scene) => {
        send(scene, one);
        change(scene, delete4);
        comeBack(scene, [], { snapshot: { last_message: one } });
      }),
  },
  {
    rule: "as-it-was",
    what: "[MSG2] a page has a text that had been edited before it was asked for",
    history: () =>
      inLog([rowOf(one, edit2), edit2], (scene) => {
        send(scene, one);
        change(scene, edit2);
        read(scene.ben, one, edit2);
      }),
  },
  {
    rule: "as-it-was",
    what: "[MSG2] a page has the edit before the last",
    history: () =>
      inLog([rowOf(one, edit3), edit3], (scene) => {
        send(scene, one);
        change(scene, edit2, edit3);
        read(scene.ben, rowOf(one, edit2), edit3);
      }),
  },
  {
    rule: "as-it-was",
    what: "[MSG2] a message is deleted that nobody has deleted",
    history: () =>
      inLog([one], (scene) => {
        send(scene, one);
        read(scene.ben, rowOf(one, delete4));
      }),
  },
  {
    rule: "as-it-was",
    what: "[MSG3] a reaction that is known is missing",
    history: () =>
      inLog([rowOf(one, like2), like2], (scene) => {
        send(scene, one);
        change(scene, like2);
        read(scene.ben, one, like2);
      }),
  },
  {
    rule: "as-it-was",
    what: "[MSG3] a reaction that was taken back is shown",
    history: () =>
      inLog([rowOf(one), unlike3], (scene) => {
        send(scene, one);
        change(scene, like2, unlike3);
        read(scene.ben, rowOf(one, like2), unlike3);
      }),
  },
  {
    rule: "as-it-was",
    what: "[MSG3] reactions are counted wrongly",
    history: () =>
      inLog([rowOf(one, like2), like2], (scene) => {
        send(scene, one);
        change(scene, like2);
        const payload = { ...one.payload, reactions: [{ reaction: "👍", count: 2, user_ids: ["ben"] }] };
        read(scene.phone, { ...one, payload });
      }),
  },
  {
    rule: "changes-asked",
    what: "[MSG2] an edit that nobody has asked for",
    history: () =>
      inLog([rowOf(one, edit2), edit2], (scene) => {
        send(scene, one);
        for (const device of [scene.phone, scene.laptop, scene.ben]) device.see(edit2);
      }),
  },
  {
    rule: "changes-asked",
    what: "[MSG3] a reaction is told as another's",
    history: () => {
      const byAnna = reaction(2, one, { by: "anna" });
      return inLog([rowOf(one, byAnna), byAnna], (scene) => {
        send(scene, one);
        scene.ben.request("reaction.add", { conversation_id: "c1", message_id: one.id, reaction: "👍" });
        scene.ben.close();
        for (const device of [scene.phone, scene.laptop]) device.see(byAnna);
      });
    },
    also: ["everybody-back"],
  },
  {
    rule: "newest-only",
    what: "[MSG2] the edit before the last is kept",
    history: () =>
      inLog([rowOf(one, edit3), edit2, edit3], (scene) => {
        send(scene, one);
        change(scene, edit2, edit3);
      }),
  },
  {
    rule: "newest-only",
    what: "[MSG2] the edit of a deleted message is kept",
    history: () =>
      inLog([rowOf(one, delete4), edit3, delete4], (scene) => {
        send(scene, one);
        change(scene, edit2, edit3, delete4);
      }),
    also: ["deleted-gone"],
  },
  {
    rule: "newest-only",
    what: "[MSG3] both sides of a reaction are kept",
    history: () =>
      inLog([rowOf(one), like2, unlike3], (scene) => {
        send(scene, one);
        change(scene, like2, unlike3);
      }),
  },
  {
    rule: "changes-kept",
    what: "[MSG2] an acknowledged edit is not in the log",
    history: () =>
      inLog([one], (scene) => {
        send(scene, one);
        scene.phone.change(edit2);
      }),
    also: ["as-it-was", "same-conversation"],
  },
  {
    rule: "changes-kept",
    what: "[MSG3] a message does not show a reaction whose event is there",
    history: () =>
      inLog([one, like2], (scene) => {
        send(scene, one);
        change(scene, like2);
      }),
    also: ["as-it-was", "same-conversation"],
  },
  {
    rule: "same-conversation",
    what: "[MSG2] one never hears of an edit",
    history: () =>
      inLog([rowOf(one, edit2), edit2], (scene) => {
        send(scene, one);
        scene.phone.change(edit2);
        scene.laptop.see(edit2);
      }),
  },
  {
    rule: "same-conversation",
    what: "[MSG2] one never hears of a deletion",
    history: () =>
      inLog([rowOf(one, delete4), delete4], (scene) => {
        send(scene, one);
        scene.phone.change(delete4);
        scene.laptop.see(delete4);
      }),
  },
  {
    rule: "same-conversation",
    what: "[MSG3] one never hears of a reaction",
    history: () =>
      inLog([rowOf(one, like2), like2], (scene) => {
        send(scene, one);
        scene.ben.change(like2);
        scene.laptop.see(like2);
      }),
  },
];

describe("broken histories", () => {
  proveBroken(cases);

  test("[MSG2] there is one for every rule", () => {
    expect([...new Set(cases.map(({ rule }) => rule))].sort()).toEqual(messageRules.map(({ id }) => id).sort());
  });
});
