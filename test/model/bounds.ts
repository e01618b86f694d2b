/** Small worlds for the protocol's model, and which of them shows which flaw. */
import type { Bounds, Flaw } from "./protocol.ts";

export const worlds = {
  /** Two batches over the same topics in other orders, one of which may end in the middle. */
  crossing: {
    existing: ["a", "b"],
    appends: [
      { name: "A", batches: [["a", "b"]], mayEnd: true },
      { name: "B", batches: [["b", "a"]] },
    ],
    reads: { R: 2 },
  },
  /** Topics that nobody has written to before, beside an old one. */
  newTopics: {
    existing: ["m"],
    appends: [
      { name: "A", batches: [["k", "m", "n"]], mayEnd: true },
      { name: "B", batches: [["n", "m", "k"]] },
    ],
    reads: { R: 1 },
  },
  /** A node that appends and moves its cursor by its own batches. */
  node: {
    existing: ["a", "b"],
    appends: [
      { name: "A", batches: [["a", "a"]], node: "R" },
      { name: "B", batches: [["b"]] },
    ],
    reads: { R: 2 },
  },
  /** A session that appends twice. */
  session: {
    existing: ["a", "b"],
    appends: [
      { name: "A", batches: [["a"], ["a"]] },
      { name: "B", batches: [["b"]] },
    ],
    reads: { R: 1 },
  },
  /** Retention empties a topic that is appended to. */
  retention: {
    existing: ["a"],
    appends: [
      { name: "A", batches: [["a"]] },
      { name: "B", batches: [["a"]] },
    ],
    reads: { R: 1 },
    trims: ["a"],
  },
} satisfies Record<string, Bounds>;

/** Seconds to minutes: by hand. */
export const largerWorlds = {
  three: {
    existing: ["a", "b"],
    appends: [
      { name: "A", batches: [["a"]], mayEnd: true },
      { name: "B", batches: [["b"]] },
      { name: "C", batches: [["a"]] },
    ],
    reads: { R: 2 },
  },
  threeOverTwo: {
    existing: ["a", "b"],
    appends: [
      { name: "A", batches: [["a", "b"]], mayEnd: true },
      { name: "B", batches: [["b", "a"]], mayEnd: true },
      { name: "C", batches: [["a"]], node: "R" },
    ],
    reads: { R: 1 },
  },
  twoReaders: {
    existing: ["a", "b"],
    appends: [
      { name: "A", batches: [["a"], ["b"]], node: "R" },
      { name: "B", batches: [["b", "a"]], mayEnd: true },
    ],
    reads: { R: 2, S: 1 },
  },
} satisfies Record<string, Bounds>;

/** Tells what each flaw does in the end, and where it is seen with few states. */
export const flaws: Record<Flaw, { world: keyof typeof worlds; fault: RegExp }> = {
  "lock after the numbers": { world: "crossing", fault: /has never seen/ },
  "in flight read before the end": { world: "crossing", fault: /has never seen/ },
  "snapshot before in flight": { world: "crossing", fault: /has never seen/ },
  "topic released before the commit": { world: "crossing", fault: /shows 1 at 3 after 1/ },
  "number read before the topic's lock": { world: "crossing", fault: /shows 1 at 3 after 1/ },
  "topics locked in the order of the batch": { world: "crossing", fault: /nobody can go on/ },
  "new topics in the order of the batch": { world: "newTopics", fault: /nobody can go on/ },
  "cursor at the last event read": { world: "node", fault: /has never seen/ },
  "cursor taken back to a lower watermark": { world: "node", fault: /went back/ },
  "sequence that sessions cache": { world: "session", fault: /has never seen/ },
  "sequence that was never called": { world: "crossing", fault: /has never seen/ },
  "floor read before the newest event": { world: "retention", fault: /shows 1 at 2 after 1/ },
  "own batch over somebody else's numbers": { world: "node", fault: /has never seen/ },
};
