/** Visits every state that a model can reach, the nearest first, and tells the shortest way to one that must not be. */

export interface Move<State> {
  /** Says what is done, for people. */
  label: string;
  state: State;
  /** May happen and need not: whoever waits for it waits for ever. */
  isMishap?: boolean;
}

/** States are plain data: two that are written alike are one. */
export interface Model<State> {
  initial: State;
  /** Everything that can happen next; none of it changes the state given. */
  movesOf: (state: State) => Move<State>[];
  /** Tells what is wrong with a state; null where all that is promised holds. */
  faultOf: (state: State) => string | null;
  /** Whether it may stay like this for ever. */
  isEnd: (state: State) => boolean;
}

export interface Explored {
  states: number;
  fault: { what: string; trace: string[] } | null;
}

/** Ends at the first fault. @throws Error where there are more states than that: a bound that was passed proves nothing */
export function explore<State>(model: Model<State>, { statesMax = 2_000_000 } = {}): Explored {
  const places = new Map<string, number>();
  const found: { key: string; from: number; label: string }[] = [];
  const add = (state: State, from: number, label: string) => {
    const key = JSON.stringify(state);
    if (places.has(key)) return;
    if (found.length === statesMax) throw new Error(`more than ${statesMax} states`);
    places.set(key, found.length);
    found.push({ key, from, label });
  };
  const traceTo = (place: number) => {
    const trace: string[] = [];
    for (let at = place; at > 0; at = found[at]!.from) trace.unshift(found[at]!.label);
    return trace;
  };
  add(model.initial, -1, "");
  for (let place = 0; place < found.length; place++) {
    const state: State = JSON.parse(found[place]!.key);
    const moves = model.movesOf(state);
    const isStuck = !model.isEnd(state) && moves.every(({ isMishap }) => isMishap);
    const what = model.faultOf(state) ?? (isStuck ? "nobody can go on" : null);
    if (what !== null) return { states: found.length, fault: { what, trace: traceTo(place) } };
    for (const { label, state: next } of moves) add(next, place, label);
    // Only the way back is needed from here on.
    found[place]!.key = "";
  }
  return { states: found.length, fault: null };
}
