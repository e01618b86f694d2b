/** Keeps in a file of Node's or Bun's: a line for each write, written anew and renamed once it holds more past than present. */
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { Store } from "../core.ts";

/** Bytes of a file that is not worth writing anew. */
const smallBytes = 256 * 1024;

type Change = readonly [key: string, value?: unknown];

/** For one process at a time: two that write the same file undo each other's changes. */
export class FileStore implements Store {
  readonly #path: string;
  readonly #values = new Map<string, string>();
  /** Everything in turn: a write is a line behind the last one. */
  #turn: Promise<unknown> = Promise.resolve();
  #isLoaded = false;
  /** Of the whole lines that are there; what a crash has left behind them is cut off. */
  #bytes = 0;
  /** Size from which it is written anew. */
  #worthBytes = smallBytes;

  /** @param path of the file; it and its folder are made where they are missing */
  constructor(path: string) {
    this.#path = path;
  }

  read(prefix: string): Promise<[key: string, value: unknown][]> {
    return this.#inTurn(async () =>
      [...this.#values]
        .filter(([key]) => key.startsWith(prefix))
        .sort(([one], [other]) => (one < other ? -1 : 1))
        .map(([key, text]) => [key, JSON.parse(text)]),
    );
  }

  async write(changes: readonly [key: string, value: unknown][]): Promise<void> {
    // As it is now: whoever gave it may go on changing it.
    const line = `${JSON.stringify(changes.map(([key, value]) => (value === undefined ? [key] : [key, value])))}\n`;
    await this.#inTurn(async () => {
      const taken = JSON.parse(line) as Change[];
      await this.#append(line);
      this.#take(taken);
      await this.#rewriteWhereWorthIt();
    });
  }

  clear(): Promise<void> {
    return this.#inTurn(async () => {
      await rm(this.#path, { force: true });
      this.#values.clear();
      this.#bytes = 0;
    });
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(() => this.#load()).then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    const bytes = await readFile(this.#path).catch((error) => {
      if (error.code === "ENOENT") return null;
      throw error;
    });
    this.#values.clear();
    this.#bytes = bytes === null ? 0 : this.#replay(bytes);
    this.#isLoaded = true;
  }

  /** @returns how many bytes are whole lines: a crash may have cut the last one short */
  #replay(bytes: Buffer): number {
    let start = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      const changes = parsed(bytes.toString("utf8", start, end));
      if (changes === null) break;
      this.#take(changes);
      start = end + 1;
    }
    return start;
  }

  #take(changes: readonly Change[]): void {
    for (const [key, ...value] of changes) {
      if (value.length === 0) this.#values.delete(key);
      else this.#values.set(key, JSON.stringify(value[0]));
    }
  }

  async #append(line: string): Promise<void> {
    if (this.#bytes === 0) await mkdir(dirname(this.#path), { recursive: true });
    // Others of the machine have no business with what somebody writes.
    const file = await open(this.#path, "a", 0o600);
    try {
      await file.truncate(this.#bytes);
      await file.appendFile(line);
      await file.datasync();
      this.#bytes += Buffer.byteLength(line);
    } finally {
      await file.close();
    }
  }

  /** A crash in between leaves the one file or the other, whole. */
  async #rewriteWhereWorthIt(): Promise<void> {
    if (this.#bytes < this.#worthBytes) return;
    const line = `[${[...this.#values].map(([key, text]) => `[${JSON.stringify(key)},${text}]`).join(",")}]\n`;
    const next = `${this.#path}.next`;
    const file = await open(next, "w", 0o600);
    try {
      await file.writeFile(line);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(next, this.#path);
    this.#bytes = Buffer.byteLength(line);
    this.#worthBytes = Math.max(smallBytes, 2 * this.#bytes);
  }
}

function parsed(line: string): Change[] | null {
  try {
    return JSON.parse(line) as Change[];
  } catch {
    return null;
  }
}
