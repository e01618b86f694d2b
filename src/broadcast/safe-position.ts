/** Owns how far every event is published on this node, which is what cursors are made of [LOG4]. */
import { assert } from "../ground/assert.ts";

export class SafePosition {
  #value = 0;
  /** The last one that a client was given. */
  #given = 0;

  get value(): number {
    return this.#value;
  }

  /** Nothing at or below it is still to be published: a client may come back with it. */
  get given(): number {
    return this.#given;
  }

  /** Takes where the log is as the node starts. */
  begin(position: number): void {
    this.#value = position;
  }

  advance(throughPosition: number): void {
    if (throughPosition > this.#value) this.#value = throughPosition;
  }

  /** Another epoch has begun: what was known beyond it is of another log. */
  goBack(heldThrough: number): void {
    this.#value = Math.min(this.#value, heldThrough);
    this.#given = Math.min(this.#given, heldThrough);
  }

  /** @returns what a client is given. @throws InvariantBroken where a client has been given more */
  give(): number {
    assert(this.#value >= this.#given, "cursor", { position: this.#value, given: this.#given });
    this.#given = this.#value;
    return this.#given;
  }
}
