/** Composes the service of areas: each is built of the parts of those before it, started after them and stopped before them. */
import type { Base } from "./base.ts";

/** Joins the parts of one concern, and says how they start and stop. */
export interface Area<Parts = unknown> {
  /** Given to the areas after it. */
  parts: Parts;
  start?(): Promise<void>;
  stop?(): Promise<void>;
  /** Called every `websocket.cleanup_interval`: drops what nobody needs any more. */
  sweep?(now: number): void;
}

/** Names the parts of an area. */
export type PartsOf<Compose extends (...given: never[]) => Area> = ReturnType<Compose>["parts"];

export class Composition<Parts extends object> {
  readonly #areas: Area[];
  #timer: Timer | null = null;

  private constructor(
    private readonly base: Base,
    readonly parts: Parts,
    areas: Area[],
  ) {
    this.#areas = areas;
  }

  /** Begins with an area that needs no other. */
  static of<Parts extends object>(base: Base, first: Area<Parts>): Composition<Parts> {
    return new Composition(base, first.parts, [first]);
  }

  /** Adds an area; it does not compile where a part that the area needs is not made before it. */
  add<New extends object>(compose: (base: Base, parts: Parts) => Area<New>): Composition<Parts & New> {
    const area = compose(this.base, this.parts);
    return new Composition(this.base, { ...this.parts, ...area.parts }, [...this.#areas, area]);
  }

  /** Starts the areas in their order, and sweeps them from then on. */
  async start(): Promise<void> {
    for (const area of this.#areas) await area.start?.();
    this.#timer = setInterval(() => this.#sweep(), this.base.config.websocket.cleanup_interval);
  }

  /** Stops the areas in the reverse order. */
  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const area of this.#areas.toReversed()) await area.stop?.();
  }

  #sweep(): void {
    for (const area of this.#areas) area.sweep?.(this.base.now());
  }
}
