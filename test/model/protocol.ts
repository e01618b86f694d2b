/** The log's protocol on PostgreSQL as a state machine: appends, their watermark, retention, and who reads [LOG3] [LOG4]. */
import type { Model, Move } from "./explore.ts";

/** Names what one actor does, a step after the other; between any two steps all others may go on. */
type Step = readonly [name: string, topic?: string];

interface Event {
  topic: string;
  seq: number;
  position: number;
  trimmed?: true;
}

interface Actor {
  name: string;
  at: number;
  /** Sequence's end, as this one has read it. */
  end: number;
  /** Carried by its shared lock; -1: it holds none. */
  floor: number;
  heads: Record<string, number>;
  floors: Record<string, number>;
  drawn: Event[];
  /** Numbers that its session has taken in advance, where the sequence lets it. */
  cached: number[];
  watermark: number;
  /** Positions that its snapshot shows; null: it has none. */
  snapshot: number[] | null;
}

/** Holds what a node knows: events up to its cursor have been sent, and some above it. */
interface Reader {
  cursor: number;
  read: number[];
  fault?: string;
}

interface State {
  last: number;
  /** Committed, by position. */
  events: Event[];
  floors: Record<string, number>;
  /** Names who holds a topic's row; who has inserted it and not committed yet. */
  locks: Record<string, string>;
  created: Record<string, string>;
  actors: Actor[];
  readers: Record<string, Reader>;
}

export interface Append {
  name: string;
  /** Batches of one session; one event for each topic named, in this order. */
  batches: string[][];
  /** It may be ended at any moment: the engine refuses, its node freezes and is ended, its machine is gone. */
  mayEnd?: boolean;
  /** The node that appends, whose cursor moves by batches of its own. */
  node?: string;
}

/** Each breaks the design in one place. */
export type Flaw =
  | "lock after the numbers"
  | "in flight read before the end"
  | "snapshot before in flight"
  | "topic released before the commit"
  | "number read before the topic's lock"
  | "topics locked in the order of the batch"
  | "new topics in the order of the batch"
  | "cursor at the last event read"
  | "cursor taken back to a lower watermark"
  | "sequence that sessions cache"
  | "sequence that was never called"
  | "floor read before the newest event"
  | "own batch over somebody else's numbers";

export interface Bounds {
  appends: Append[];
  /** Topics that exist at the start; others are new. */
  existing: string[];
  /** Nodes, and how often each asks the log. */
  reads: Record<string, number>;
  /** Topics that retention empties at some moment. */
  trims?: string[];
}

const fresh = (name: string): Actor => ({
  name,
  at: 0,
  end: 0,
  floor: -1,
  heads: {},
  floors: {},
  drawn: [],
  cached: [],
  watermark: 0,
  snapshot: null,
});

const unique = (topics: string[]) => [...new Set(topics)];

const stepsOfAppend = ({ batches, node }: Append, existing: string[], flaw: Flaw | null) =>
  batches.flatMap((topics) => stepsOfBatch(topics, node, existing, flaw));

function stepsOfBatch(topics: string[], node: string | undefined, existing: string[], flaw: Flaw | null): Step[] {
  const isOld = (topic: string) => existing.includes(topic);
  const created = unique(topics.filter((topic) => !isOld(topic)));
  const locked = unique(topics);
  if (flaw !== "new topics in the order of the batch") created.sort();
  // Old rows have the lower numbers.
  if (flaw !== "topics locked in the order of the batch")
    locked.sort((a, b) => Number(isOld(b)) - Number(isOld(a)) || (a < b ? -1 : 1));
  const create = created.map((topic): Step => ["create", topic]);
  const lock = locked.map((topic): Step => ["lock", topic]);
  const draw = topics.map((topic): Step => ["draw", topic]);
  const read = (name: string) => unique(topics).map((topic): Step => [name, topic]);
  // One statement reads them all: nothing comes in between.
  const heads: Step[] = flaw === "floor read before the newest event" ? [["floors"], ...read("newest")] : [["heads"]];
  const end: Step[] = [...(node === undefined ? [] : ([["accept"]] as Step[]))];
  if (flaw === "lock after the numbers")
    return [...create, ...lock, ["end"], ...heads, ...draw, ["floor"], ["commit"], ["release"], ...end];
  if (flaw === "number read before the topic's lock")
    return [...create, ...heads, ...lock, ["end"], ["floor"], ...draw, ["commit"], ["release"], ...end];
  if (flaw === "topic released before the commit")
    return [...create, ...lock, ["end"], ["floor"], ...heads, ...draw, ["unlock"], ["commit"], ["release"], ...end];
  return [...create, ...lock, ["end"], ["floor"], ...heads, ...draw, ["commit"], ["release"], ...end];
}

function stepsOfRead(rounds: number, flaw: Flaw | null): Step[] {
  const round: Step[] =
    flaw === "in flight read before the end"
      ? [["flight"], ["end"], ["snapshot"], ["move"]]
      : flaw === "snapshot before in flight"
        ? [["end"], ["snapshot"], ["flight"], ["move"]]
        : [["end"], ["flight"], ["snapshot"], ["move"]];
  return Array.from({ length: rounds }, () => round).flat();
}

export function protocolOf(bounds: Bounds, flaw: Flaw | null = null): Model<State> {
  const steps: Record<string, Step[]> = {};
  const appends = new Map(bounds.appends.map((append) => [append.name, append]));
  for (const append of bounds.appends) steps[append.name] = stepsOfAppend(append, bounds.existing, flaw);
  for (const [name, rounds] of Object.entries(bounds.reads)) steps[name] = stepsOfRead(rounds, flaw);
  for (const topic of bounds.trims ?? []) steps[`retention of ${topic}`] = [["trim", topic]];
  // A sequence that was never called shows the number that it will give out first.
  const topics = unique(bounds.appends.flatMap(({ batches }) => batches.flat()));
  const isUncalled = (state: State) => flaw === "sequence that was never called" && state.last === 0;
  const endOf = (state: State) => (isUncalled(state) ? 1 : state.last);

  /** @returns whether the step could be done; where it waits, the state is to be thrown away */
  function take(state: State, actor: Actor, [name, topic = ""]: Step): boolean {
    switch (name) {
      case "create": {
        if (state.created[topic] === "committed") return true;
        if (state.created[topic] !== undefined) return false;
        state.created[topic] = actor.name;
        return true;
      }
      case "lock":
        // A row that another has inserted and not committed is not seen, and cannot be: `create` has waited for it.
        if (state.locks[topic] !== undefined) return state.locks[topic] === actor.name;
        state.locks[topic] = actor.name;
        return true;
      case "end":
        actor.end = endOf(state);
        return true;
      case "floor":
        actor.floor = actor.end;
        return true;
      case "heads":
        for (const it of topics) actor.heads[it] = Math.max(newest(state, it), state.floors[it] ?? 0);
        return true;
      case "floors":
        actor.floors = { ...state.floors };
        return true;
      case "newest":
        actor.heads[topic] = Math.max(newest(state, topic), actor.floors[topic] ?? 0);
        return true;
      case "draw": {
        const seq = actor.heads[topic]! + 1;
        actor.heads[topic] = seq;
        actor.drawn.push({ topic, seq, position: draw(state, actor) });
        return true;
      }
      case "unlock":
        unlock(state, actor);
        return true;
      case "commit":
        state.events = [...state.events, ...actor.drawn].sort((a, b) => a.position - b.position);
        for (const [it, by] of Object.entries(state.created)) if (by === actor.name) state.created[it] = "committed";
        return true;
      case "release":
        unlock(state, actor);
        actor.floor = -1;
        actor.end = 0;
        actor.heads = {};
        actor.floors = {};
        if (appends.get(actor.name)!.node === undefined) actor.drawn = [];
        return true;
      case "accept":
        accept(state.readers[appends.get(actor.name)!.node!]!, actor, flaw);
        actor.drawn = [];
        return true;
      case "flight": {
        const floors = state.actors.map(({ floor }) => floor).filter((floor) => floor >= 0);
        actor.watermark = Math.min(...floors, ...(flaw === "in flight read before the end" ? [] : [actor.end]));
        // Written as JSON: there is no infinity.
        if (actor.watermark === Number.POSITIVE_INFINITY) actor.watermark = Number.MAX_SAFE_INTEGER;
        return true;
      }
      case "snapshot":
        actor.snapshot = state.events.flatMap(({ position, trimmed }) => (trimmed ? [] : [position]));
        return true;
      case "move":
        move(state.readers[actor.name]!, actor, flaw);
        return true;
      case "trim": {
        // The floor and what it stands for in one transaction.
        state.floors[topic] = Math.max(state.floors[topic] ?? 0, newest(state, topic));
        state.events = state.events.map((event) => (event.topic === topic ? { ...event, trimmed: true } : event));
        return true;
      }
      default:
        throw new Error(`no such step: ${name}`);
    }
  }

  function draw(state: State, actor: Actor): number {
    if (flaw !== "sequence that sessions cache") return ++state.last;
    if (actor.cached.length === 0) actor.cached.push(++state.last, ++state.last);
    return actor.cached.shift()!;
  }

  function movesOf(state: State): Move<State>[] {
    const moves: Move<State>[] = [];
    for (const [index, { name, at }] of state.actors.entries()) {
      const step = steps[name]![at];
      if (step === undefined) continue;
      const next: State = copyOf(state);
      const actor = next.actors[index]!;
      actor.at++;
      if (take(next, actor, step)) moves.push({ label: `${name}: ${step.join(" ")}`, state: next });
      if (isInFlight(name, at)) moves.push({ label: `${name} is ended`, state: ended(state, index), isMishap: true });
    }
    return moves;
  }

  /** Between the first step and the commit of its first batch. */
  function isInFlight(name: string, at: number): boolean {
    if (!appends.get(name)?.mayEnd) return false;
    return at > 0 && at <= steps[name]!.findIndex(([it]) => it === "commit");
  }

  function ended(state: State, index: number): State {
    const next: State = copyOf(state);
    const actor = next.actors[index]!;
    unlock(next, actor);
    for (const [topic, by] of Object.entries(next.created)) if (by === actor.name) delete next.created[topic];
    next.actors[index] = { ...fresh(actor.name), at: steps[actor.name]!.length };
    return next;
  }

  return {
    initial: {
      last: 0,
      events: [],
      floors: {},
      locks: {},
      created: Object.fromEntries(bounds.existing.map((topic) => [topic, "committed"])),
      actors: Object.keys(steps).map(fresh),
      readers: Object.fromEntries(Object.keys(bounds.reads).map((name) => [name, { cursor: 0, read: [] }])),
    },
    movesOf,
    faultOf,
    isEnd: ({ actors }) => actors.every(({ name, at }) => steps[name]![at] === undefined),
  };
}

const copyOf = (state: State): State => ({
  last: state.last,
  // Events are replaced, never changed; so is what is drawn.
  events: state.events,
  floors: { ...state.floors },
  locks: { ...state.locks },
  created: { ...state.created },
  actors: state.actors.map((actor) => ({
    ...actor,
    heads: { ...actor.heads },
    drawn: [...actor.drawn],
    cached: [...actor.cached],
  })),
  readers: Object.fromEntries(Object.entries(state.readers).map(([name, reader]) => [name, { ...reader }])),
});

const newest = (state: State, topic: string) =>
  Math.max(0, ...state.events.flatMap((event) => (event.topic === topic && !event.trimmed ? [event.seq] : [])));

function unlock(state: State, { name }: Actor): void {
  for (const [topic, by] of Object.entries(state.locks)) if (by === name) delete state.locks[topic];
}

/** The cursor moves over a batch of the node's own that nobody else's numbers are below or within. */
function accept(reader: Reader, { drawn }: Actor, flaw: Flaw | null): void {
  const [first, last] = [drawn[0]!.position, drawn.at(-1)!.position];
  const isWhole = last - first === drawn.length - 1;
  reader.read = inOrder([...reader.read, ...drawn.map(({ position }) => position)]);
  const previous = flaw === "own batch over somebody else's numbers" ? reader.cursor : isWhole ? first - 1 : last;
  if (previous <= reader.cursor) reader.cursor = Math.max(reader.cursor, last);
}

/** Reads what is above the cursor and moves it. */
function move(reader: Reader, actor: Actor, flaw: Flaw | null): void {
  const found = actor.snapshot!.filter((position) => position > reader.cursor);
  reader.read = inOrder([...reader.read, ...found]);
  const last = Math.max(reader.cursor, ...found);
  const to = flaw === "cursor at the last event read" ? last : Math.min(actor.watermark, Math.max(last, actor.end));
  if (to < reader.cursor && flaw === "cursor taken back to a lower watermark") reader.fault = "a cursor went back";
  reader.cursor = flaw === "cursor taken back to a lower watermark" ? to : Math.max(reader.cursor, to);
  actor.snapshot = null;
  actor.watermark = 0;
  actor.end = 0;
}

const inOrder = (positions: number[]) => [...new Set(positions)].sort((a, b) => a - b);

function faultOf({ events, readers }: State): string | null {
  const heads: Record<string, number> = {};
  for (const { topic, seq, position } of events) {
    if (seq !== (heads[topic] ?? 0) + 1) return `${topic} shows ${seq} at ${position} after ${heads[topic] ?? 0}`;
    heads[topic] = seq;
  }
  for (const [name, { cursor, read, fault }] of Object.entries(readers)) {
    if (fault !== undefined) return `${name}: ${fault}`;
    const passed = events.find(({ position, trimmed }) => position <= cursor && !trimmed && !read.includes(position));
    if (passed) return `${name} is at ${cursor} and has never seen ${passed.position}`;
  }
  return null;
}
