/** Holds a connection of the loop's own to the file that the worker has open, and gives it up for a while where something is wrong. */
import { statSync } from "node:fs";
import type { PreparedDatabase } from "./prepared-database.ts";

/** So long (ms) after trouble with the file only the worker is asked, which says what it is. */
const restMs = 1_000;

export interface LoopConnectionOptions<Opened> {
  path: string;
  now?: (() => number) | undefined;
  open: (path: string) => Opened;
}

type State<Opened> =
  | { kind: "closed" }
  /** `file`: what the worker had opened by that name. */
  | { kind: "open"; file: string; opened: Opened | null; restsUntil: number };

export class LoopConnection<Opened extends { database: PreparedDatabase }> {
  #state: State<Opened> = { kind: "closed" };

  constructor(private readonly options: LoopConnectionOptions<Opened>) {}

  /** Begins; the worker has the file open. What is in memory has one connection only. */
  start(): void {
    const { path } = this.options;
    const file = path === ":memory:" ? null : identityOf(path);
    if (file !== null) this.#state = { kind: "open", file, opened: null, restsUntil: 0 };
  }

  stop(): void {
    this.rest();
    this.#state = { kind: "closed" };
  }

  /** Rests where there is trouble with the file: the connection is given up, for the worker may open another file by that name. */
  rest(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    const { opened } = state;
    state.opened = null;
    state.restsUntil = this.#now() + restMs;
    opened?.database.close();
  }

  /** Null where the worker is to be asked. @throws what keeps the file from being opened */
  get(): Opened | null {
    const state = this.#state;
    if (state.kind === "closed") return null;
    if (state.opened !== null || this.#now() < state.restsUntil) return state.opened;
    const { path, open } = this.options;
    // Another file may stand where it was, which the worker may or may not have opened meanwhile.
    if (identityOf(path) === state.file) state.opened = open(path);
    else this.rest();
    return state.opened;
  }

  #now(): number {
    return (this.options.now ?? Date.now)();
  }
}

/** Tells files of one name apart; null: there is none. */
function identityOf(path: string): string | null {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? null : `${found.dev} ${found.ino}`;
}
