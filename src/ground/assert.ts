/** States what must always hold, cheaply enough to stay on in production; who catches what is broken stops one connection or one topic. */

/** Each with its sentence; docs/internals.md says who owns it and docs/operating.md what a node does where it is broken. */
export const invariants = {
  append: "An append gives positions that grow, and numbers that grow on each topic.",
  topic_order: "The next event of a topic that is published here is the one after its head.",
  cursor: "A cursor never goes back within an epoch, and what is below one that was given out has been published.",
  catch_up: "A replay sends nothing that its client has already.",
  connection_state: "A connection moves along the edges of its states only.",
  reply_order: "Each request is answered once, in the order in which it came.",
  call_version: "A call that is written never has a lower version than what it was made of.",
} as const;

export type Invariant = keyof typeof invariants;

/** Facts of the case, for the log. */
export type Facts = Readonly<Record<string, string | number>>;

/** Thrown for a fault of this program, or of an engine that does not keep its word; never for what a peer sends. */
export class InvariantBroken extends Error {
  override readonly name = "InvariantBroken";

  constructor(
    readonly invariant: Invariant,
    readonly facts: Facts,
  ) {
    super(`This does not hold: ${invariants[invariant]}`);
  }
}

/** @throws InvariantBroken */
export function assert(holds: boolean, invariant: Invariant, facts: Facts): asserts holds {
  if (!holds) throw new InvariantBroken(invariant, facts);
}

/** Ends a switch over a union: where a member of it has no case yet this does not compile. */
export function assertNever(value: never): never {
  throw new Error(`Not foreseen: ${JSON.stringify(value)}`);
}
