/** The checker's judge of a log that went back: it forgives what was lost to whom was told, and nothing else. */
import { expect, test } from "bun:test";
import { judge } from "../support/checker/judge.ts";
import { conversation, firstCursor, historyOf, type Message, message, reaction, rowOf } from "../support/histories.ts";

type Scene = Parameters<Parameters<typeof historyOf>[0]>[0];

const [first, second, lost] = [message(1), message(2), message(2, { key: "lost" })];
/** Holds what the log that was gone back to has in the place of what is lost, and after it. */
const [instead, after] = [message(2, { key: "instead" }), message(3, { key: "after" })];

/** The phone sends, the laptop and Ben get it. */
function sendFromPhone({ phone, laptop, ben }: Scene, sent: Message): void {
  phone.send(sent);
  for (const other of [laptop, ben]) other.see(sent);
}

/** Of another epoch than what was given out before. */
const cursor = "00000001.0";

const tell = (connection: Scene["ben"], seq: number) =>
  connection.hear("subscribed", { topics: [{ topic: conversation, seq, recovered: false }], rejected: [], cursor });

/** One message stays and one is lost; who is told begins anew, and then two more are sent. */
function lossy(told: (scene: Scene) => Scene["ben"][], { log = [first, instead, after] } = {}) {
  return historyOf(
    (scene) => {
      const { writer } = scene;
      sendFromPhone(scene, first);
      writer.history.logLosses.push({ from: writer.next() });
      sendFromPhone(scene, lost);
      for (const connection of told(scene)) tell(connection, 1);
      sendFromPhone(scene, instead);
      sendFromPhone(scene, after);
    },
    { log },
  );
}

const rulesOf = (history: ReturnType<typeof lossy>) => [...new Set(judge(history).map(({ rule }) => rule))].sort();
const everybody = ({ phone, laptop, ben }: Scene) => [phone, laptop, ben];

test("[LOG4] what was acknowledged may be gone where everybody was told", () => {
  expect(judge(lossy(everybody))).toEqual([]);
});

test("[LOG4] a device that goes on listening deaf is found", () => {
  expect(rulesOf(lossy(({ phone, laptop }) => [phone, laptop]))).toContain("same-order");
});

test("[LOG4] whoever got the acknowledgement of what is lost is to be told as well", () => {
  expect(rulesOf(lossy(({ laptop, ben }) => [laptop, ben]))).toContain("no-holes");
});

test("[LOG4] afterwards everything counts again: a message that is not in the log, and one that somebody does not get", () => {
  expect(rulesOf(lossy(everybody, { log: [first, instead] }))).toContain("no-holes");
  const history = lossy(everybody);
  const bens = history.devices.find(({ userId }) => userId === "ben")!.connections[0]!;
  bens.entries = bens.entries.filter((entry) => entry.kind !== "message" || entry.message.id !== after.id);
  expect(rulesOf(history)).toContain("acked-delivered");
});

test("[LOG4] what was out of order before the loss was a fault all the same, and so is telling of a loss where there was none", () => {
  const early = (happens: (scene: Scene) => void) =>
    historyOf(
      (scene) => {
        happens(scene);
        scene.writer.history.logLosses.push({ from: scene.writer.next() });
        for (const connection of everybody(scene)) tell(connection, 2);
      },
      { log: [first, lost] },
    );
  const sound = early((scene) => {
    for (const sent of [first, lost]) sendFromPhone(scene, sent);
  });
  expect(judge(sound)).toEqual([]);
  const unordered = early(({ phone, laptop, ben }) => {
    for (const sent of [first, lost]) phone.send(sent);
    for (const seen of [first, lost]) laptop.see(seen);
    for (const seen of [lost, first]) ben.see(seen);
  });
  expect(rulesOf(unordered)).toEqual(["same-order"]);
  const needless = lossy(everybody);
  needless.logLosses = [];
  expect(rulesOf(needless)).toContain("no-holes");
});

test("[LOG4] an event that comes between going live and the reply that says so counts as well", () => {
  const history = historyOf(
    (scene) => {
      const { phone, laptop, ben, writer } = scene;
      sendFromPhone(scene, first);
      writer.history.logLosses.push({ from: writer.next() });
      sendFromPhone(scene, lost);
      for (const connection of [phone, laptop]) tell(connection, 1);
      ben.close();
      const again = writer.connect(writer.history.devices[2]!, { since: firstCursor });
      const since = { cursor: firstCursor, seen: { [conversation]: 2 } };
      const request = again.request("subscribe", { topics: ["conversation"], since });
      phone.send(instead);
      for (const other of [laptop, again]) other.see(instead);
      const topics = [{ topic: conversation, seq: 1, recovered: false, replayed: 0 }];
      again.reply(request, "subscribed", { topics, rejected: [], cursor: "00000001.1" });
      again.hear("presence.online", { user_id: "anna", status: "online" });
    },
    { log: [first, instead] },
  );
  expect(judge(history)).toEqual([]);
});

test("[LOG4] [MSG3] who sends again, after beginning anew, what is there with a reaction from before does not know of that", () => {
  const liked = reaction(2, first, { by: "ben" });
  const history = historyOf(
    (scene) => {
      const { phone, laptop, ben, writer } = scene;
      const { conversation_id, client_message_id, content } = first.payload;
      phone.request("message.send", { conversation_id, client_message_id, content });
      for (const other of [laptop, ben]) other.see(first);
      ben.change(liked);
      laptop.see(liked);
      phone.close();
      writer.history.logLosses.push({ from: writer.next() });
      const again = writer.connect(writer.history.devices[0]!);
      tell(again, 2);
      for (const connection of [laptop, ben]) tell(connection, 2);
      again.hear("presence.online", { user_id: "ben", status: "online" });
      again.live({ seq: 2, cursor: "00000001.0" });
      again.send(first, { duplicate: true });
    },
    { log: [rowOf(first, liked), liked] },
  );
  expect(judge(history)).toEqual([]);
});

/** Two messages stay; everybody is told, and nobody of those who are there at the end reads the log. */
function unread(happens: (scene: Scene) => void) {
  const history = historyOf(
    (scene) => {
      const { writer } = scene;
      for (const sent of [first, second]) sendFromPhone(scene, sent);
      writer.history.logLosses.push({ from: writer.next() });
      for (const connection of everybody(scene)) tell(connection, 2);
      happens(scene);
    },
    { log: [first, second] },
  );
  const isOfLog = (it: any) => (it.type ?? it.message.type) === "history";
  for (const { connections } of history.devices)
    for (const connection of connections) connection.entries = connection.entries.filter((it) => !isOfLog(it));
  return history;
}

test("[LOG4] [REC3] what stayed is unread as before, also where nobody has seen it again, and no more than there are numbers", () => {
  const snapshot = (unread: number) => ({ unread, last_message: second, as_of_seq: 2 });
  const shown = (count: number) => unread(({ ben }) => ben.live({ seq: 2, cursor, snapshot: snapshot(count) }));
  expect(judge(shown(2))).toEqual([]);
  expect(rulesOf(shown(3))).toEqual(["list-true"]);
  expect(rulesOf(shown(0))).toEqual(["list-true"]);

  const mark: [string, object] = ["mark.delivered", { conversation_id: "c1", up_to_seq: 2 }];
  const answered = (count: number) =>
    unread(({ ben }) => {
      ben.live({ seq: 2, cursor, snapshot: snapshot(2) });
      ben.exchange(mark, ["ack", { up_to_seq: 2, unread: count }]);
    });
  expect(judge(answered(2))).toEqual([]);
  expect(rulesOf(answered(3))).toEqual(["marks-count"]);
});
