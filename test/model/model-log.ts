/** A log whose appends go on at the same time and whose calls go step by step, each when the schedule says so. */

import { Unavailable } from "../../src/ground/unavailable.ts";
import { Epochs } from "../../src/storage/epochs.ts";
import type {
  AppendedEvent,
  AppendResult,
  EventLog,
  FeedPage,
  LoggedEvent,
  MovedPage,
  NewEvent,
  TopicHead,
} from "../../src/storage/ports.ts";
import type { Action, Touches } from "./schedule.ts";

/** Each breaks what the port promises in one place. */
export type LogFlaw =
  | "watermark above what is in flight"
  | "page without a watermark"
  | "heads younger than the page's events"
  | "what moved, told beyond the watermark"
  | "what moved, by heads and cut"
  | "feed beyond the watermark"
  | "own batch over foreign numbers"
  | "topic open while one appends to it"
  | "numbers of a topic against their positions";

interface Flight {
  topics: string[];
  /** All that it draws is above. */
  floor: number;
  drawn: LoggedEvent[];
}

interface Step extends Touches {
  name: string;
  /** Left out: it can be done at any moment. */
  mayRun?: () => boolean;
  run: () => void;
  /** Of one at which the engine may be away: what it touches then, and what ends the course. */
  refusal?: Touches & { run: () => void };
  /** Can be done in its place. */
  instead?: Omit<Step, "refusal" | "instead">;
}

/** Steps that come one after the other, on behalf of a node or of somebody that is not in the model. */
export interface Course {
  name: string;
  steps: Step[];
}

/** Positions and heads can be told from everything that is committed. */
const log = "log";
const flights = "flights";
const numbers = "numbers";
/** Small, so that what is read in pages is. */
const rowsMax = 3;

export class ModelLog {
  readonly courses: Course[] = [];
  /** Committed, by position; replaced, never changed. */
  events: LoggedEvent[] = [];
  #last = 0;
  readonly #epochs = new Epochs();
  readonly #flights = new Map<string, Flight>();

  /** @param refusals how often the engine may be away for a moment */
  constructor(
    readonly flaw: LogFlaw | null = null,
    public refusals = 0,
  ) {
    this.#epochs.replace([{ id: "aaaaaaaa", no: 1, beganAt: 0, broken: false, line: "", createdAt: 0 }]);
  }

  /** Position of the last event that is visible. */
  get end(): number {
    return this.events.at(-1)?.position ?? 0;
  }

  actions(): Action[] {
    return this.courses.flatMap(({ name, steps: [step] }) => {
      if (step === undefined) return [];
      const { refusal, instead, ...first } = step;
      const ways = instead === undefined ? [first] : [first, instead];
      const actions = ways.flatMap((way): Action[] =>
        way.mayRun?.() === false ? [] : [{ ...way, name: `${name}: ${way.name}`, run: () => this.#run(name, way.run) }],
      );
      // How many are left is everybody's.
      const writes = [...(refusal?.writes ?? []), "refusals"];
      const run = () => this.#refuse(name);
      if (refusal !== undefined && this.refusals > 0) actions.push({ name: `${name}: is refused`, writes, run });
      return actions;
    });
  }

  /** An append's steps; its events are shown at the one before the last. Of units that others are in the way of none is written. */
  append(
    name: string,
    events: NewEvent[],
    { done, units }: { done: (result: AppendResult) => Step; units?: number[] | undefined },
  ): void {
    const topics = [...new Set(events.map(({ topic }) => topic))];
    let taken = events;
    const isOpen = this.flaw === "topic open while one appends to it";
    const isFree = (topic: string) =>
      isOpen || ![...this.#flights.values()].some((flight) => flight.topics.includes(topic));
    const begin = () => {
      const locked = [...new Set(taken.map(({ topic }) => topic))];
      if (locked.length > 0) this.#flights.set(name, { topics: locked, floor: this.#last, drawn: [] });
    };
    const leaveAlone = () => {
      const crowded = units!.filter((_, index) => !isFree(events[index]!.topic));
      taken = events.filter((_, index) => !crowded.includes(units![index]!));
      begin();
    };
    const drawAll = () => {
      const flight = this.#flights.get(name);
      if (flight === undefined) return;
      const heads = new Map(topics.map((topic) => [topic, this.headOf(topic).seq]));
      const drawn = taken.map(({ id, topic, type, payload, createdAt }) => {
        heads.set(topic, heads.get(topic)! + 1);
        return { id, topic, type, payload, createdAt, seq: heads.get(topic)!, position: ++this.#last };
      });
      if (this.flaw === "numbers of a topic against their positions" && drawn.length > 1)
        [drawn[0]!.position, drawn[1]!.position] = [drawn[1]!.position, drawn[0]!.position];
      flight.drawn = drawn;
    };
    const commit = () => {
      const drawn = this.#flights.get(name)?.drawn ?? [];
      const lastSeen = this.events.at(-1)?.position ?? 0;
      const below = (drawn[0]?.position ?? 1) - 1;
      this.#flights.delete(name);
      this.events = [...this.events, ...drawn].sort((a, b) => a.position - b.position);
      const previousPosition = this.flaw === "own batch over foreign numbers" ? Math.min(below, lastSeen) : below;
      const appended = events.map(({ id, topic, createdAt }): AppendedEvent => {
        const written = drawn.find((it) => it.id === id);
        if (written === undefined)
          return { id, topic, createdAt, seq: 0, position: 0, duplicate: false, deferred: true };
        return { id, topic, createdAt, seq: written.seq, position: written.position, duplicate: false };
      });
      course.steps.push(done({ previousPosition, appended }));
    };
    const lock = { reads: [numbers], writes: [flights, ...topics] };
    const mayWait = () => topics.every(isFree);
    const quick: Step = { ...lock, name: "locks what is free", mayRun: () => !mayWait(), run: leaveAlone };
    const course: Course = {
      name,
      steps: [
        { ...lock, name: "locks", mayRun: mayWait, run: begin, ...(units && { instead: quick }) },
        { name: "draws", reads: topics, writes: [numbers], run: drawAll },
        { name: "commits", writes: [log, flights, ...topics], run: commit },
      ],
    };
    this.courses.push(course);
  }

  /** An append that ends in the middle: its positions are missing for ever. */
  abandon(name: string, events: NewEvent[]): void {
    this.append(name, events, { done: () => ({ name: "", run() {} }) });
    const course = this.courses.at(-1)!;
    course.steps[2] = { ...course.steps[2]!, name: "is taken back", run: () => void this.#flights.delete(name) };
  }

  /** No further than what is there: numbers that were drawn and not used may be drawn again after a crash. */
  watermark(): number {
    const floors = [...this.#flights.values()].map(({ floor }) => floor);
    return this.flaw === "watermark above what is in flight" ? this.#last : Math.min(this.end, ...floors);
  }

  headOf(topic: string, events = this.events): TopicHead {
    const newest = events.findLast((event) => event.topic === topic);
    return { seq: newest?.seq ?? 0, position: newest?.position ?? 0, trimmedPosition: 0 };
  }

  /** Gives what one node sees of it; what asks has a name. */
  portOf(node: string, name = node): EventLog {
    let calls = 0;
    // Counted for each, so that they are called the same whatever others do in between.
    const call = (what: string) => `${name} #${++calls} ${what}`;
    const missing = () => Promise.reject(new Error("not in the model"));
    return {
      append: (events, units) =>
        new Promise((resolve) => {
          const batch = `${node} appends ${events.map(({ id }) => id).join("+")}`;
          const done = (result: AppendResult) => ({ name: "is answered", writes: [node], run: () => resolve(result) });
          this.append(batch, events, { done, units });
        }),
      watermark: () => this.#look({ node, name: call("watermark"), reads: [flights, numbers] }, () => this.watermark()),
      replay: ({ topics, afterPosition, limit }) =>
        this.#lookBelow({ node, name: call(`replay ${topics} > ${afterPosition}`) }, (watermark) => {
          const found = this.events.filter((it) => topics.includes(it.topic) && it.position > afterPosition);
          const events = found.slice(0, Math.min(limit, rowsMax));
          const heads = () => new Map(topics.map((topic) => [topic, this.headOf(topic)]));
          const through = this.flaw === "page without a watermark" ? Number.MAX_SAFE_INTEGER : watermark;
          const page = { events, more: found.length > events.length, heads: heads(), watermark: through };
          if (this.flaw !== "heads younger than the page's events") return () => page;
          return () => ({ ...page, heads: heads() });
        }),
      range: ({ topic, afterSeq, throughSeq, limit }) =>
        this.#look({ node, name: call(`range ${topic} ${afterSeq}..${throughSeq}`), reads: [log] }, () => {
          const found = this.events.filter((it) => it.topic === topic && it.seq > afterSeq && it.seq <= throughSeq);
          const events = found.slice(0, Math.min(limit, rowsMax));
          return { events, more: found.length > events.length };
        }),
      heads: (topics) =>
        this.#look(
          { node, name: call(`heads ${topics}`), reads: [log] },
          () => new Map(topics.map((topic) => [topic, this.headOf(topic)])),
        ),
      movedSince: (position, limit) =>
        this.#lookBelow({ node, name: call(`moved > ${position}`) }, (watermark) => {
          const page = this.#movedSince(position, { watermark, limit: Math.min(limit, rowsMax) });
          return () => page;
        }),
      movedAmong: ({ topics, afterPosition, throughPosition }) =>
        this.#look(
          { node, name: call(`moved among ${topics} in ${afterPosition}..${throughPosition}`), reads: [log] },
          () => {
            const isIn = ({ topic, position }: LoggedEvent) =>
              topics.includes(topic) && position > afterPosition && position <= throughPosition;
            return newestOf(this.events.filter(isIn));
          },
        ),
      feed: ({ afterPosition, limit }) =>
        this.#lookBelow({ node, name: call(`feed > ${afterPosition}`) }, (watermark) => {
          const page = this.#feed(afterPosition, { watermark, limit: Math.min(limit, rowsMax) });
          return () => page;
        }),
      epochs: this.#epochs,
      // The model's log never goes back.
      note() {},
      find: missing,
      page: missing,
      pageOf: missing,
      trim: missing,
      stats: missing,
    };
  }

  #movedSince(after: number, { watermark, limit }: { watermark: number; limit: number }): MovedPage {
    const { end } = this;
    const through = this.flaw === "what moved, told beyond the watermark" ? this.#last : watermark;
    const found = this.events.filter(({ position }) => position > after && position <= through);
    if (this.flaw === "what moved, by heads and cut") {
      const heads = newestOf(found);
      const more = heads.length > limit;
      return {
        heads: heads.slice(0, limit),
        position: more ? heads[limit - 1]!.position : through,
        more,
        watermark,
        end,
      };
    }
    const events = found.slice(0, limit);
    const more = found.length > limit;
    return { heads: newestOf(events), position: more ? events.at(-1)!.position : through, more, watermark, end };
  }

  #feed(after: number, { watermark, limit }: { watermark: number; limit: number }): FeedPage {
    const through = this.flaw === "feed beyond the watermark" ? this.end : watermark;
    const found = this.events.filter(({ position }) => position > after && position <= through);
    const events = found.slice(0, limit);
    const more = found.length > limit;
    const position = more ? events.at(-1)!.position : Math.max(after, through);
    return { events, more, position, end: this.end, trimmedPosition: 0 };
  }

  #run(name: string, run: () => void): void {
    const place = this.courses.findIndex((course) => course.name === name);
    const course = this.courses[place]!;
    course.steps.shift();
    run();
    if (course.steps.length === 0) this.courses.splice(place, 1);
  }

  #refuse(name: string): void {
    const place = this.courses.findIndex((course) => course.name === name);
    const [course] = this.courses.splice(place, 1);
    this.refusals--;
    course!.steps[0]!.refusal!.run();
  }

  /** Looks once, and is answered later. */
  #look<Answer>({ node, name, reads }: { node: string; name: string; reads: string[] }, look: () => Answer) {
    return new Promise<Answer>((resolve, reject) => {
      let answer: Answer;
      const refusal = { writes: [node], run: () => reject(new Unavailable("storage", "away for a moment")) };
      const steps = [
        { name: "looks", reads, run: () => void (answer = look()), refusal },
        { name: "is answered", writes: [node], run: () => resolve(answer) },
      ];
      this.courses.push({ name, steps });
    });
  }

  /** Takes the watermark, looks, and is answered later. */
  #lookBelow<Answer>({ node, name }: { node: string; name: string }, look: (watermark: number) => () => Answer) {
    return new Promise<Answer>((resolve, reject) => {
      let watermark = 0;
      let answer: () => Answer;
      const refusal = { writes: [node], run: () => reject(new Unavailable("storage", "away for a moment")) };
      // Under the flaw of heads it looks once more.
      const reads = this.flaw === "heads younger than the page's events" ? [log] : [];
      const steps = [
        {
          name: "takes the watermark",
          reads: [flights, numbers],
          run: () => void (watermark = this.watermark()),
          refusal,
        },
        { name: "looks", reads: [log], run: () => void (answer = look(watermark)) },
        { name: "is answered", reads, writes: [node], run: () => resolve(answer()) },
      ];
      this.courses.push({ name, steps });
    });
  }
}

/** The newest of each topic, by position. */
function newestOf(events: LoggedEvent[]): MovedPage["heads"] {
  const newest = new Map(events.map((event) => [event.topic, event]));
  return [...newest.values()]
    .map(({ topic, seq, position }) => ({ topic, seq, position }))
    .sort((a, b) => a.position - b.position);
}
