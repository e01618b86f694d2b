/** Tries orders of actions: all of them but for those that only swap what does not touch, or some by a seed. */

/** Tells what an action reads and changes; two of which neither changes what the other touches may be swapped. */
export interface Touches {
  reads?: string[];
  writes?: string[];
}

export interface Action extends Touches {
  /** One at a time has it, in every order of the others. */
  name: string;
  run: () => void;
}

/** One run, from its start; the same choices lead to the same state. */
export interface Play {
  enabled: () => Action[];
  /** Tells what is wrong by now. */
  fault: () => string | null;
  /** Lets all that is left go its fair way. @returns what is wrong in the end */
  finish: () => string | null;
  end: () => void;
}

export interface Tried {
  runs: number;
  fault: { what: string; trace: string[] } | null;
}

/** A point at which something else could have been chosen. */
interface Point {
  choices: Action[];
  chosen: number;
  /** Tried already where it leads to the same: it stays asleep until something touches it. */
  asleep: Map<string, Action>;
}

/** All orders. @throws Error where there are more runs than that: a bound that was passed proves nothing */
export function tryAll(start: () => Play, { runsMax = 1_000_000 } = {}): Tried {
  const path: Point[] = [];
  for (let runs = 1; ; runs++) {
    if (runs > runsMax) throw new Error(`more than ${runsMax} runs`);
    const what = follow(start(), path);
    if (what !== null)
      return { runs, fault: { what, trace: path.map(({ choices, chosen }) => choices[chosen]!.name) } };
    while (path.length > 0 && path.at(-1)!.chosen === path.at(-1)!.choices.length - 1) path.pop();
    const last = path.at(-1);
    if (last === undefined) return { runs, fault: null };
    const done = last.choices[last.chosen]!;
    last.asleep.set(done.name, done);
    last.chosen++;
  }
}

/** Goes the path, and on from its end by the first choice each time. */
function follow(play: Play, path: Point[]): string | null {
  try {
    for (let depth = 0; ; depth++) {
      const enabled = play.enabled();
      if (enabled.length === 0) return play.finish();
      if (depth === path.length) {
        const asleep = asleepAt(path);
        const choices = enabled.filter(({ name }) => !asleep.has(name));
        // Ends here: whatever comes now was tried in another order.
        if (choices.length === 0) return null;
        path.push({ choices, chosen: 0, asleep });
      }
      const { choices, chosen } = path[depth]!;
      const action = enabled.find(({ name }) => name === choices[chosen]!.name);
      if (action === undefined)
        throw new Error(`${choices[chosen]!.name} cannot be done again: the run is not deterministic`);
      action.run();
      const what = play.fault();
      if (what !== null) {
        path.length = depth + 1;
        return what;
      }
    }
  } finally {
    play.end();
  }
}

function asleepAt(path: Point[]): Map<string, Action> {
  const before = path.at(-1);
  if (before === undefined) return new Map();
  const action = before.choices[before.chosen]!;
  return new Map([...before.asleep].filter(([, it]) => !touch(it, action)));
}

const touch = (one: Touches, other: Touches) => changes(one, other) || changes(other, one);
const changes = ({ writes = [] }: Touches, { reads = [], writes: others = [] }: Touches) =>
  writes.some((it) => reads.includes(it) || others.includes(it));

/** One run in the order given, and then its fair way. @throws Error where the order cannot be */
export function tryOrder(play: Play, order: string[]): string | null {
  try {
    for (const name of order) {
      const action = play.enabled().find((it) => it.name === name);
      if (action === undefined) throw new Error(`${name} cannot be now`);
      action.run();
      const what = play.fault();
      if (what !== null) return what;
    }
    return play.finish();
  } finally {
    play.end();
  }
}

/** So many runs in orders that the seed chooses. */
export function trySome(start: () => Play, { runs, seed }: { runs: number; seed: number }): Tried {
  const random = randomBy(seed);
  for (let run = 1; run <= runs; run++) {
    const play = start();
    const trace: string[] = [];
    const haste = new Map<string, number>();
    try {
      for (let enabled = play.enabled(); enabled.length > 0; enabled = play.enabled()) {
        const action = drawn(enabled, { random, haste });
        trace.push(action.name);
        action.run();
        const what = play.fault();
        if (what !== null) return { runs: run, fault: { what, trace } };
      }
      const what = play.finish();
      if (what !== null) return { runs: run, fault: { what, trace } };
    } finally {
      play.end();
    }
  }
  return { runs, fault: null };
}

/** Some are slow in a run and some quick: evenly drawn, nobody would stand still while others do much. */
function drawn(actions: Action[], { random, haste }: { random: () => number; haste: Map<string, number> }): Action {
  const hasteOf = ({ name }: Action) => {
    const [actor = ""] = name.split(":");
    if (!haste.has(actor)) haste.set(actor, random() ** 4 + 0.001);
    return haste.get(actor)!;
  };
  let left = random() * actions.reduce((sum, action) => sum + hasteOf(action), 0);
  return actions.find((action) => (left -= hasteOf(action)) <= 0) ?? actions.at(-1)!;
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function randomBy(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
