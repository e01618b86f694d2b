/** Keeps in a browser's IndexedDB: one database for each name, one object store in it, each write one transaction. */
import type { Store } from "../core.ts";

const kept = "kept";
const opensWithinMs = 10_000;

export class IndexedDbStore implements Store {
  readonly #name: string;
  #opened: Promise<IDBDatabase> | null = null;

  /** @param name of the database: who is signed in at which service; another name is another store */
  constructor(name: string) {
    this.#name = name;
  }

  async read(prefix: string): Promise<[key: string, value: unknown][]> {
    const database = await this.#open();
    const store = database.transaction(kept, "readonly").objectStore(kept);
    const range = rangeOf(prefix);
    // Asked for in one transaction, so that the two belong together.
    const [keys, values] = await Promise.all([answer(store.getAllKeys(range)), answer(store.getAll(range))]);
    return keys.map((key, at) => [key as string, values[at]]);
  }

  async write(changes: readonly [key: string, value: unknown][]): Promise<void> {
    // As it is now: whoever gave it may go on changing it while the database opens.
    const copied = structuredClone(changes);
    await this.#change((store) => {
      for (const [key, value] of copied) {
        if (value === undefined) store.delete(key);
        else store.put(value, key);
      }
    });
  }

  /** Removes the database as well, whose name says who was here. */
  async clear(): Promise<void> {
    await this.#change((store) => store.clear());
    const database = await this.#open();
    this.#opened = null;
    database.close();
    // Not waited for: it waits for other tabs to close theirs. It is empty already.
    indexedDB.deleteDatabase(this.#name);
  }

  async #change(change: (store: IDBObjectStore) => void): Promise<void> {
    const database = await this.#open();
    const transaction = database.transaction(kept, "readwrite");
    const done = new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
    });
    change(transaction.objectStore(kept));
    await done;
  }

  #open(): Promise<IDBDatabase> {
    this.#opened ??= open(this.#name, () => (this.#opened = null));
    return this.#opened;
  }
}

/** `onGone` is called where it could not be opened, or is closed by others: the next use opens it anew. */
async function open(name: string, onGone: () => void): Promise<IDBDatabase> {
  try {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(kept);
    const database = await inTime(answer(request));
    // The user has cleared what sites keep, or another tab removes the database.
    database.onclose = onGone;
    database.onversionchange = () => {
      database.close();
      onGone();
    };
    return database;
  } catch (error) {
    onGone();
    throw error;
  }
}

/** A tab that the system has stopped may keep it from opening for as long as that lasts, where another one has removed it. */
function inTime(opening: Promise<IDBDatabase>): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      // Opened late it would keep others from removing it.
      opening.then(
        (database) => database.close(),
        () => {},
      );
      reject(new Error("IndexedDB does not answer."));
    }, opensWithinMs);
    void opening.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

const answer = <Result>(request: IDBRequest<Result>) =>
  new Promise<Result>((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** All keys that begin so: none has a character that is no character. */
const rangeOf = (prefix: string) => IDBKeyRange.bound(prefix, `${prefix}\uffff`);
