/** Gives every contract suite a storage that is started and empty. */
import type { Storage } from "../../src/storage/ports.ts";

export interface Opened {
  storage: Storage;
  /** Stops it and removes what it has stored. */
  close(): Promise<void>;
}

/** Each call opens another, empty one, with a clock where one is given; stopping and starting it keeps what it holds. */
export type Open = (options?: { now?: () => number }) => Promise<Opened>;

/** Runs a test's body on a storage of its own. */
export function withStorage(open: Open, body: (storage: Storage) => Promise<void>): () => Promise<void> {
  return async () => {
    const { storage, close } = await open();
    try {
      await body(storage);
    } finally {
      await close();
    }
  };
}
