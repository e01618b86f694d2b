/** Knows from every append, and from a small write in between, whether an engine takes writes [END2]. */
import { Unavailable } from "../ground/unavailable.ts";
import type { EventLog, NewEvent } from "./ports.ts";

/** Told of each refusal and of each write that was taken; who listens tells the changes from the rest. */
export interface WriteWatch {
  began(error: unknown): void;
  ended(): void;
}

/** For where nobody is told. */
export const unwatched: WriteWatch = { began() {}, ended() {} };

export interface WriteProofOptions {
  append: EventLog["append"];
  /** Writes as much as that, durably, in a way that leaves nothing behind. */
  write(bytes: number): Promise<void>;
  writes: WriteWatch;
}

/** However much was refused, a proof writes no more than this. */
const proofBytesMax = 10 * 1024 * 1024;
/** An append writes whole pages of every table and index that it touches: so much once, and so much for each event. */
const batchBytes = 96 * 1024;
const eventBytes = 32 * 1024;

/** The first two functions reject with what the engine says. */
export function createWriteProof({ append, write, writes }: WriteProofOptions): {
  append: EventLog["append"];
  proveWrites(): Promise<void>;
  /** Whether a write was refused and none was taken since that was as large. */
  hasRefused(): boolean;
  /** Told of what is known without a write: that the next one will be refused. */
  expectRefusal(error: unknown): void;
} {
  /** As much as the largest append that was refused: a full disk may well have room for the smallest write. */
  let owed = 0;
  let hasRefused = false;

  function expectRefusal(error: unknown): void {
    hasRefused = true;
    writes.began(error);
  }

  async function watched<Result>(work: Promise<Result>, bytes: () => number): Promise<Result> {
    try {
      const result = await work;
      owed = 0;
      hasRefused = false;
      writes.ended();
      return result;
    } catch (error) {
      if (error instanceof Unavailable) {
        owed = Math.min(proofBytesMax, Math.max(owed, bytes()));
        expectRefusal(error);
      }
      throw error;
    }
  }

  return {
    append: (events, units) => watched(append(events, units), () => sizeOf(events)),
    proveWrites: () => watched(write(owed), () => owed),
    hasRefused: () => hasRefused,
    expectRefusal,
  };
}

function sizeOf(events: NewEvent[]): number {
  return events.reduce((sum, { payload }) => sum + eventBytes + Buffer.byteLength(payload), batchBytes);
}
