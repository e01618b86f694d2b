/** Makes the instruments of one registry; most read their value only when somebody looks, so that counting costs nothing before. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Tally } from "./counts.ts";

export class Instruments {
  readonly register = new Registry();
  readonly #registers = [this.register];

  /** Shows a tally, a line for each of its keys. */
  tallied({ name, help, label }: { name: string; help: string; label: string }, read: () => Tally): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: this.#registers,
      collect() {
        this.reset();
        for (const [key, count] of Object.entries(read())) this.inc({ [label]: key }, count);
      },
    });
  }

  /** Shows what only grows. */
  counted(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers: this.#registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  /** Shows what goes up and down. */
  measured(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: this.#registers,
      collect() {
        this.set(read());
      },
    });
  }

  /** Shows a text, as a label of what is always 1. */
  told({ name, help, label }: { name: string; help: string; label: string }, text: string): void {
    new Gauge({ name, help, labelNames: [label], registers: this.#registers }).labels(text).set(1);
  }

  gauge(name: string, help: string, label: string): Gauge {
    return new Gauge({ name, help, labelNames: [label], registers: this.#registers });
  }

  histogram(name: string, help: string, buckets: number[], label?: string): Histogram {
    return new Histogram({
      name,
      help,
      buckets,
      labelNames: label === undefined ? [] : [label],
      registers: this.#registers,
    });
  }
}

/** From a millisecond to five seconds. */
export const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
