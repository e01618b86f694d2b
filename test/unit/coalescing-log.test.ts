/** Proves that the order and the cursors of the log hold where its events are written together: appends, catch-ups and questions at random [WIRE1]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { createBroadcasting } from "../../src/broadcast/broadcasting.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { catchUp } from "../../src/subscription/catch-up.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { build, topics, coalescedMs as windowMs } from "../support/coalescing-node.ts";
import { type NativeSocket, readFrame as read } from "../support/native-sockets.ts";
import { newEvent } from "../support/new-event.ts";

const person = fc.nat(3);
const logged = ["conversation:c1", "conversation:c2"];
const loggedTopic = fc.constantFrom(...logged);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("publish" as const), topic: loggedTopic, by: person }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom("join" as const, "leave" as const), who: person, topic: loggedTopic }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("ask" as const), who: person }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.nat(25) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("settle" as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer Kind> ? Kind : never;

/** Plays steps, most of them while others are under way, and judges what each connection was sent. */
async function judge(steps: Step[]): Promise<void> {
  const { clock, sockets, common } = build({ windowMs });
  const storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const { publisher, sequencer } = createBroadcasting({
    ...common,
    log: storage.log,
    waitingMax: 1_000,
    recent: { bytesMax: 4_096 },
    logger,
  });
  await sequencer.start();
  /** By topic, where each event is. */
  const positions = new Map(logged.map((name) => [name, new Map<number, number>()]));
  const people = sockets.map((socket) => new Person(socket, { sequencer, log: storage.log, positions }));
  const underWay: Promise<void>[] = [];
  try {
    for (const one of steps) {
      if (one.do === "publish") {
        const { connection } = sockets[one.by]!;
        underWay.push(
          publisher.appendAll([newEvent(one.topic)], { audience: { except: connection } }).then(([appended]) => {
            const { seq, position } = appended!;
            positions.get(one.topic)!.set(seq, position);
            people[one.by]!.noteOwn(one.topic, seq);
          }),
        );
      } else if (one.do === "pass") await clock.pass(one.ms);
      else if (one.do === "settle") await Promise.all(underWay);
      else underWay.push(people[one.who]![one.do]("topic" in one ? one.topic : ""));
    }
    await Promise.all(underWay);
    await clock.pass(1_000);
    for (const each of people) each.judge();
  } finally {
    sequencer.stop();
    await storage.stop();
  }
}

interface LogUnder {
  sequencer: ReturnType<typeof createBroadcasting>["sequencer"];
  log: Parameters<typeof catchUp>[0]["log"];
  positions: Map<string, Map<number, number>>;
}

/** Joins and leaves topics over one socket, one after the other, and goes on where it was. */
class Person {
  #last: Promise<void> = Promise.resolve();
  /** The last `seq` that it had of a topic as it left, and the place that it goes on from. */
  readonly #left = new Map<string, { seq: number; position: number }>();
  readonly #own = new Map(logged.map((name) => [name, new Set<number>()]));
  #position: number | null = null;

  constructor(
    private readonly socket: NativeSocket,
    private readonly under: LogUnder,
  ) {
    for (const name of topics) socket.connection.unsubscribe(name);
  }

  noteOwn(name: string, seq: number): void {
    this.#own.get(name)!.add(seq);
  }

  join(name: string): Promise<void> {
    return this.#then(async () => {
      const { connection } = this.socket;
      if (connection.isSubscribed(name)) return;
      const left = this.#left.get(name);
      const since = left === undefined ? null : { position: left.position, breaks: 0, seen: {}, isUnbroken: true };
      const places = await catchUp(this.under, { subscriber: connection, topics: [name], since, revoked: new Set() });
      this.#tell("joined", { name, from: left?.position ?? null, seq: places.get(name)!.seq });
      this.#ask();
    });
  }

  leave(name: string): Promise<void> {
    return this.#then(async () => {
      const { connection } = this.socket;
      if (!connection.isSubscribed(name)) return;
      this.#ask();
      connection.unsubscribe(name);
      this.#left.set(name, { seq: this.under.sequencer.headOf(name) ?? 0, position: this.#position! });
      this.#tell("left", { name });
    });
  }

  ask(): Promise<void> {
    return this.#then(async () => this.#ask());
  }

  /** Each topic came in its order, nothing twice and nothing missing; with each cursor everything up to it had come. */
  judge(): void {
    const had = new Map<string, Set<number>>();
    const from = new Map<string, number>();
    for (const { type, topic: name, seq, payload } of this.socket.frames.map(read)) {
      if (type === "message.new") {
        const seqs = had.get(name) ?? new Set();
        // Before `joined` it is a replay, which begins anew behind a cursor.
        if (from.has(name)) expect(seq).toBeGreaterThan(Math.max(from.get(name)!, ...seqs));
        had.set(name, seqs.add(seq));
      } else if (type === "joined") {
        const { positions } = this.under;
        const passed = [...positions.get(payload.name)!].filter(([, position]) => position <= (payload.from ?? 0));
        from.set(payload.name, payload.from === null ? payload.seq : Math.max(0, ...passed.map(([at]) => at)));
      } else if (type === "left") {
        from.delete(payload.name);
        had.delete(payload.name);
      } else if (type === "pong") {
        for (const [on, after] of from) this.#expectAll(on, { after, through: payload.position }, had.get(on));
      }
    }
    for (const [on, after] of from) this.#expectAll(on, { after, through: Number.POSITIVE_INFINITY }, had.get(on));
  }

  #expectAll(name: string, { after, through }: { after: number; through: number }, had = new Set<number>()): void {
    const due = [...this.under.positions.get(name)!].filter(([seq, position]) => seq > after && position <= through);
    const missing = due.filter(([seq]) => !had.has(seq) && !this.#own.get(name)!.has(seq));
    expect({ name, through, missing }).toEqual({ name, through, missing: [] });
  }

  #ask(): void {
    this.#position = this.under.sequencer.safePosition;
    this.#tell("pong", { position: this.#position });
  }

  #tell(type: string, payload: object): void {
    this.socket.connection.sendMessage({ id: "told", type, payload: JSON.stringify(payload), at: 0 });
  }

  #then(work: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(work);
    return this.#last;
  }
}

test("[WIRE1] [LOG3] [LOG4] [LOG5] under catch-ups nothing is missing, doubled or out of order, and no cursor passes what waits", async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 60 }), judge), { numRuns: 100 });
}, 60_000);
