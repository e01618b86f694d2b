/** Proves what every bus between nodes must do [LOG3]; one of a node that is alone has nothing to prove. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Bus, ControlMessage, TopicMessage } from "../../src/cluster/ports.ts";
import { nextTurn } from "../../src/ground/next-turn.ts";

export interface OpenedBus {
  /** Three nodes that hear each other. */
  nodes: { one: Bus; other: Bus; third: Bus };
  close(): Promise<void>;
}

export function describeBusContract(name: string, open: () => Promise<OpenedBus>): void {
  describe(`bus: ${name}`, () => {
    let opened: OpenedBus;
    let one: Bus;
    let other: Bus;
    let third: Bus;
    beforeEach(async () => {
      opened = await open();
      ({ one, other, third } = opened.nodes);
    });
    afterEach(() => opened.close());

    test("[LOG3] what one node publishes is heard, whole, by the nodes that watch the topic and by no other", async () => {
      const [atOne, atOther, atThird] = [record(one), record(other), record(third)];
      await Promise.all([one.watch("conversation:c1"), other.watch("conversation:c1"), third.watch("typing:c1")]);
      one.publish("conversation:c1", logged("conversation:c1", 1));
      one.publish("typing:c1", ephemeral("typing:c1", "the end"));
      await atThird.topic((message) => topicOf(message) === "typing:c1");
      expect(await atOther.topic(() => true)).toEqual(logged("conversation:c1", 1));
      expect(atThird.topics).toEqual([ephemeral("typing:c1", "the end")]);
      // One's own come back before the one that another node answers with.
      other.publish("conversation:c1", logged("conversation:c1", 2));
      expect(await atOne.topic(() => true)).toEqual(logged("conversation:c1", 2));
    });

    test("[LOG3] messages of one node on one topic keep their order", async () => {
      const atOther = record(other);
      await other.watch("conversation:c1");
      for (let seq = 1; seq <= 500; seq++) {
        one.publish("conversation:c1", logged("conversation:c1", seq));
        // Many of one turn of the loop, few, and one alone.
        if (seq % 100 < seq / 25) await nextTurn();
      }
      await atOther.topic((message) => message.kind === "logged" && message.event.seq === 500);
      const seqs = atOther.topics.map((message) => (message.kind === "logged" ? message.event.seq : 0));
      expect(seqs).toEqual(Array.from({ length: 500 }, (_, at) => at + 1));
    });

    test("[SUB] many topics watched in one turn are all heard", async () => {
      const atOther = record(other);
      const topics = Array.from({ length: 1_200 }, (_, at) => `conversation:c${at}`);
      await Promise.all(topics.map((topic) => other.watch(topic)));
      for (const topic of topics) one.publish(topic, logged(topic, 1));
      await atOther.count(topics.length);
      expect(new Set(atOther.topics.map(topicOf))).toEqual(new Set(topics));
    });

    test("[SUB4] watching twice is hearing once", async () => {
      const atOther = record(other);
      await Promise.all([other.watch("user:ann"), other.watch("user:ann")]);
      await other.watch("user:ann");
      one.publish("user:ann", ephemeral("user:ann", "first"));
      one.publish("user:ann", ephemeral("user:ann", "last"));
      await atOther.topic((message) => message.kind === "ephemeral" && message.id === "last");
      expect(atOther.topics).toHaveLength(2);
    });

    test("[SUB5] a topic that nobody wanted for two sweeps is no longer heard; one that is watched again is", async () => {
      const atOther = record(other);
      await Promise.all(["user:kept", "user:left", "user:again"].map((topic) => other.watch(topic)));
      other.sweep((topic) => topic === "user:kept");
      await other.watch("user:again");
      other.sweep((topic) => topic === "user:kept");
      await other.watch("user:mark");
      for (const topic of ["user:left", "user:again", "user:kept", "user:mark"])
        one.publish(topic, ephemeral(topic, topic));
      await Promise.all(
        ["user:again", "user:kept", "user:mark"].map((name) => atOther.topic((message) => topicOf(message) === name)),
      );
      expect(atOther.topics.some((message) => topicOf(message) === "user:left")).toBe(false);
      other.sweep((topic) => topic !== "user:again");
      await other.watch("user:left");
      one.publish("user:left", ephemeral("user:left", "back"));
      await atOther.topic((message) => topicOf(message) === "user:left");
    });

    test("[CON3] what is broadcast reaches every other node, whatever it watches", async () => {
      const [atOne, atOther, atThird] = [record(one), record(other), record(third)];
      const message: ControlMessage = { kind: "replaced", userId: "ann", deviceId: "phone", connectionId: "c1" };
      one.broadcast(message);
      expect(await Promise.all([atOther.control(), atThird.control()])).toEqual([message, message]);
      const reply: ControlMessage = { kind: "question", questionId: "q1", from: "n1", name: "hello", about: null };
      other.broadcast(reply);
      expect(await atOne.control()).toEqual(reply);
    });
  });
}

const topicOf = (message: TopicMessage) => (message.kind === "logged" ? message.event.topic : message.topic);

function logged(topic: string, seq: number): TopicMessage {
  const event = {
    topic,
    seq,
    position: seq,
    id: `e${seq}`,
    type: "message.new",
    payload: '{"text":"✓"}',
    createdAt: 5,
  };
  return { kind: "logged", event, exceptDevice: "phone" };
}

function ephemeral(topic: string, id: string): TopicMessage {
  return { kind: "ephemeral", topic, id, type: "typing.start", payload: "{}", at: 7, onlyDevice: "d1" };
}

/** Keeps what a node hears, and waits for what it will hear. */
export function record(bus: Bus) {
  const topics: TopicMessage[] = [];
  const controls: ControlMessage[] = [];
  const watchers = new Set<() => void>();
  const notify = () => {
    for (const watcher of [...watchers]) watcher();
  };
  bus.onTopicMessage((message) => {
    topics.push(message);
    notify();
  });
  bus.onControlMessage((message) => {
    controls.push(message);
    notify();
  });
  const found = <Found>(look: () => Found | undefined) =>
    new Promise<Found>((resolve) => {
      const check = () => {
        const it = look();
        if (it === undefined) return;
        watchers.delete(check);
        resolve(it);
      };
      watchers.add(check);
      check();
    });
  return {
    topics,
    controls,
    topic: (isIt: (message: TopicMessage) => boolean) => found(() => topics.find(isIt)),
    count: (count: number) => found(() => (topics.length >= count ? true : undefined)),
    control: () => found(() => controls[0]),
  };
}
