/** Proves that an application is told each event once, whatever breaks: lines, programs, stores, and those who are told [LOG3] [LOG4] [LOG6]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { KeptPlace } from "../../src/client/connection/place.ts";
import { Connection } from "../../src/client/connection.ts";
import type { News } from "../../src/client/core.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { createHandClock } from "../support/hand-clock.ts";
import { HandSocket } from "../support/hand-sockets.ts";
import { ModelServer, ModelServerLine } from "../support/model-server.ts";

const conversations = ["a", "b", "c"];
const topicOf = (conversation: string) => `conversation:${conversation}`;

const step = fc.record({
  kind: fc.constantFrom(
    ...([
      "said",
      "said",
      "said",
      "send",
      "post",
      "work",
      "deliver",
      "deliver",
      "level",
      "level",
      "level",
      "pass",
    ] as const),
    ...(["break", "part", "part", "part", "refuse", "end", "die", "hide", "unkept", "leaves", "throws"] as const),
    ...(["acknowledge", "acknowledge", "acknowledging", "acked", "acked", "late"] as const),
  ),
  which: fc.nat(2),
  count: fc.integer({ min: 1, max: 6 }),
});
type Step = typeof step extends fc.Arbitrary<infer It> ? It : never;

/** Of a topic: what was told, what is known to be its own, and behind what everything is owed. */
interface Known {
  told: number[];
  own: number[];
  /** Null: where the topic begins is not known yet. */
  from: number | null;
  /** Acknowledged while it came back from what was acknowledged, above what was told by then: the next line went on behind it. */
  passed: { after: number; upTo: number }[];
}
type Record = { [topic: string]: Known };

/** All that is under way goes by promises alone. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 40; turn++) await Promise.resolve();
}

class Store extends MemoryStore {
  isFull = false;

  override async write(changes: readonly [key: string, value: unknown][]): Promise<void> {
    if (this.isFull) throw new Error("full");
    await super.write(changes);
  }
}

class Played {
  readonly server = new ModelServer();
  readonly #clock = createHandClock({ settled });
  readonly #store = new Store();
  #record: Record = {};
  #socket: HandSocket | null = null;
  #line: ModelServerLine | null = null;
  /** Broken, with what was asked on them before and the server has not read yet. */
  readonly #broken: ModelServerLine[] = [];
  #connection = this.#open();
  #sent = 0;
  #resumesFromAcked = false;
  #leaves = false;
  #throws = false;
  #hide = () => {};

  constructor() {
    this.server.onFromAcked = (position) => this.#notePassed(position);
  }

  async play({ kind, which, count }: Step): Promise<void> {
    const conversation_id = conversations[which]!;
    const message = () => ({ conversation_id, client_message_id: `m${++this.#sent}`, content: "" });
    switch (kind) {
      case "said":
        for (let left = count; left > 0; left--) {
          const event = this.server.append(topicOf(conversation_id), null);
          this.#line?.publish(event);
        }
        break;
      case "send":
        void this.#connection.request("message.send", message()).then(
          (ack) => this.#noteOwn(ack),
          () => {},
        );
        break;
      case "post":
        void this.#connection.outbox.add("message.send", message());
        break;
      case "work":
        for (let left = count; left > 0; left--) this.#line?.work();
        break;
      case "deliver":
        for (let left = count; left > 0; left--) this.#line?.deliver();
        break;
      case "level":
        void this.#connection.request("ping", {}).catch(() => {});
        await this.#flow();
        break;
      case "pass":
        await this.#clock.pass([10, 400, 1_500][which]!);
        break;
      case "break":
        this.#socket?.end(1006);
        break;
      case "end":
        await this.#end();
        break;
      case "die":
        await this.#die();
        break;
      case "hide":
        this.#hide();
        break;
      case "acked":
        this.#resumesFromAcked = this.server.acked > 0;
        this.#socket?.end(1006);
        break;
      case "part":
        await this.#clock.pass(this.#line === null ? 1_000 : 0);
        for (let left = 4 + count; left > 0; left--) {
          this.#line?.work();
          this.#line?.deliver();
          await settled();
        }
        this.#socket?.end(1006);
        break;
      case "acknowledge":
      case "acknowledging": {
        const { cursor } = this.#connection;
        if (cursor !== null) void this.#connection.request("ack", { cursor }).catch(() => {});
        if (kind === "acknowledge") await this.#flow();
        break;
      }
      case "late":
        for (let left = count; left > 0; left--) this.#workLate();
        break;
      case "refuse":
        this.#line?.work({ refuses: true });
        break;
      case "leaves":
        this.#leaves = true;
        break;
      case "throws":
        this.#throws = true;
        break;
      case "unkept":
        this.#store.isFull = !this.#store.isFull;
        break;
    }
    await settled();
    this.#connection.start();
    await settled();
  }

  /** The server reads what was asked on a line that is gone; nobody hears of it there. */
  #workLate(): void {
    const line = this.#broken[0];
    if (line === undefined) return;
    const known = this.server.log.length;
    line.work();
    for (const event of this.server.log.slice(known)) this.#line?.publish(event);
    if (line.hasRead) this.#broken.shift();
  }

  #noteEnd(socket: HandSocket): void {
    if (this.#socket !== socket) return;
    if (this.#line !== null) this.#broken.push(this.#line);
    this.#socket = this.#line = null;
  }

  /** All that is asked for is answered, and all that is sent comes. */
  async #flow(): Promise<void> {
    for (let left = 300; left > 0 && this.#line?.isIdle === false; left--) {
      this.#line.work();
      this.#line?.deliver();
      await settled();
    }
  }

  /** Nothing breaks any more, and all that is on its way comes. */
  async comeToRest(): Promise<void> {
    this.#store.isFull = this.#leaves = this.#throws = false;
    while (this.#broken.length > 0) this.#workLate();
    for (let round = 0; round < 1_000; round++) {
      this.#connection.start();
      await this.#clock.pass(this.#line === null || this.#line.isIdle ? 1_000 : 1);
      const isQuiet = this.#line?.isIdle === true && this.#connection.state.status === "live";
      if (isQuiet && this.#connection.outbox.entries.length === 0) return;
      await this.#flow();
    }
    throw new Error(`it does not come to rest: ${JSON.stringify(this.#connection.state)}`);
  }

  expectTruth(): void {
    for (const topic of conversations.map(topicOf)) {
      const { told, own, from, passed } = this.#record[topic]!;
      const events = this.server.log.filter((it) => it.topic === topic && it.seq > from!);
      const isOwn = (seq: number) => events.find((it) => it.seq === seq)?.key !== null;
      const isPassed = (seq: number) => passed.some(({ after, upTo }) => seq > after && seq <= upTo);
      const ofOthers = events.filter(({ key, seq }) => key === null && !isPassed(seq)).map(({ seq }) => seq);
      expect(told.filter((seq) => seq > from! && !isOwn(seq))).toEqual(ofOthers);
      expect(told).toEqual([...new Set(told)].sort((one, other) => one - other));
      expect(told.filter((seq) => own.includes(seq))).toEqual([]);
    }
  }

  #open(): Connection {
    const played = this;
    const connection: Connection = new Connection({
      ...{ url: "wss://chat.example.com/ws", userId: "anna", deviceId: "d1", ownTopics: [] },
      ...{ store: this.#store, clock: this.#clock, random: () => 0.5 },
      surroundings: {
        isOnline: () => true,
        listen: (listener) => {
          this.#hide = () => listener("hide");
          return () => {};
        },
      },
      resumesFrom: () => {
        if (!this.#resumesFromAcked) return "place";
        this.#resumesFromAcked = false;
        this.#forget();
        return "acked";
      },
      webSocket: class extends HandSocket {
        constructor(url: string) {
          super(new URL(url));
          played.#connect(this);
        }

        override close(code: number): void {
          played.#noteEnd(this);
          super.end(code);
        }

        override end(code: number): void {
          played.#noteEnd(this);
          super.end(code);
        }
      },
    });
    connection.keep({ takeChanges: () => [["record", structuredClone(this.#record)]] });
    connection.onNews((news) => connection === this.#connection && this.#take(news));
    connection.follow(conversations.map(topicOf));
    connection.follow(["presence"], { conversation_ids: conversations });
    connection.start();
    return connection;
  }

  #notePassed(position: number): void {
    for (const [topic, { told, from, passed }] of Object.entries(this.#record)) {
      const after = Math.max(from ?? 0, ...told);
      const upTo = this.server.headOf(topic, position);
      if (upTo > after) passed.push({ after, upTo });
    }
  }

  #connect(socket: HandSocket): void {
    this.#socket = socket;
    this.#line = new ModelServerLine(this.server, socket);
  }

  /** All that was acknowledged is had, and what comes after it is to be told, once more where it was told before. */
  #forget(): void {
    const known = (topic: string): Known => ({
      told: [],
      own: [],
      from: this.server.headOf(topic, this.server.acked),
      passed: [],
    });
    this.#record = Object.fromEntries(conversations.map(topicOf).map((topic) => [topic, known(topic)]));
  }

  #of(topic: string): Known {
    this.#record[topic] ??= { told: [], own: [], from: null, passed: [] };
    return this.#record[topic];
  }

  #take(news: News): void {
    switch (news.kind) {
      case "event":
        this.#of(news.event.topic!).told.push(news.event.seq!);
        break;
      case "sent":
        this.#noteOwn(news.ack);
        break;
      case "gap":
        // Only where a first line broke before there was a place to go on from.
        expect(this.#connection.cursor).toBeNull();
        for (const topic of news.topics) delete this.#record[topic];
        break;
      case "subscribed":
        for (const { topic, seq } of news.topics) this.#of(topic).from ??= seq!;
        break;
      case "unsubscribed":
      case "forgotten":
        throw new Error(`it was told ${news.kind}`);
    }
    if (this.#leaves) {
      this.#leaves = false;
      void this.#connection.stop();
    }
    if (this.#throws) {
      this.#throws = false;
      throw new Error("of a listener");
    }
  }

  #noteOwn({ topic, seq, duplicate }: { topic?: string; seq?: number; duplicate?: boolean }): void {
    if (duplicate !== true) this.#of(topic!).own.push(seq!);
  }

  /** The program ends, and starts again on what it has kept. */
  async #end(): Promise<void> {
    const stopped = this.#connection.stop();
    await this.#clock.pass(0);
    await stopped;
    await this.#goBack();
    this.#connection = this.#open();
  }

  /** The program is gone with all that it had not kept. */
  async #die(): Promise<void> {
    this.#connection.leave();
    await settled();
    await this.#goBack();
    this.#connection = this.#open();
  }

  /** Knows what was kept; before there was a place to go on from that is of no use: it begins at the head. */
  async #goBack(): Promise<void> {
    const kept = new Map(await this.#store.read(""));
    const { cursor = null } = (kept.get("session") ?? {}) as Partial<KeptPlace>;
    this.#record = cursor === null ? {} : (kept.get("record") as Record);
  }
}

test("[LOG3] [LOG4] [LOG6] whatever breaks, what others say is told once and in order, and nothing of it is left out", async () => {
  // A failure prints the seed and the path; TEST_SEED runs the same again.
  const seed = Number(Bun.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80, size: "max" }), async (steps) => {
      const played = new Played();
      for (const it of steps) await played.play(it);
      await played.comeToRest();
      played.expectTruth();
    }),
    { seed, numRuns: 500, includeErrorInReport: true },
  );
});

test("[LOG4] from where on something is heard is kept at once, later places now and then: whoever leads next has one to go on from", async () => {
  const clock = createHandClock({ settled });
  const store = new MemoryStore();
  let socket!: HandSocket;
  const connection = new Connection({
    ...{ url: "wss://chat.example.com/ws", userId: "anna", deviceId: "d1", ownTopics: [], store, clock },
    surroundings: { isOnline: () => true, listen: () => () => {} },
    webSocket: class extends HandSocket {
      constructor(url: string) {
        super(new URL(url));
        socket = this;
      }
    },
  });
  const keptCursor = async () =>
    (await store.read("session")).flatMap(([key, it]: any) => (key === "session" ? [it.cursor] : []));
  connection.follow(["conversation:a"]);
  connection.start();
  await settled();
  socket.greet();
  const answer = { topics: [{ topic: "conversation:a", seq: 1 }], rejected: [], cursor: "e.1" };
  socket.reply("subscribed", answer, socket.asked("subscribe"));
  await clock.pass(0);
  expect(await keptCursor()).toEqual(["e.1"]);
  socket.reply("pong", { cursor: "e.2" }, { id: "~9" });
  await clock.pass(499);
  expect(await keptCursor()).toEqual(["e.1"]);
  await clock.pass(1);
  expect(await keptCursor()).toEqual(["e.2"]);
  connection.follow(["conversation:b"]);
  await settled();
  const other = { topics: [{ topic: "conversation:b", seq: 5 }], rejected: [], cursor: "e.3" };
  socket.reply("subscribed", other, socket.asked("subscribe"));
  await clock.pass(0);
  const kept = new Map(await store.read("session"));
  expect(kept.get("session/covered")).toEqual(["conversation:a", "conversation:b"]);
  connection.leave();
});
