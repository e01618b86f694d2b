/** Drives a small client of another language as a program of its own: tells it what to do in lines, and hears what it says. */
import { linesOf } from "../lines.ts";

export interface Said {
  event?: string;
  payload?: any;
  seq?: number;
  cursor?: string | null;
  answer?: number;
  code?: string | number;
  field?: string;
  closed?: string;
  live?: boolean;
  extensions?: string[];
  device_id?: string;
}

export class Player {
  readonly said: Said[] = [];
  readonly exited: Promise<number>;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #watchers = new Set<() => void>();
  #commands = 0;

  /** @param options of the client, in its own names */
  constructor(command: string[], options: Record<string, unknown>) {
    this.#child = Bun.spawn([...command, JSON.stringify(options)], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.exited = this.#child.exited;
    void this.#read();
  }

  /** Everything that was said in its conversations, in the order in which it was heard. */
  get contents(): unknown[] {
    return this.said.flatMap(({ event, payload }) => (event === "message.new" ? [payload.content] : []));
  }

  /** Has the client do something, and waits for what comes of it. */
  async do(what: Record<string, unknown>): Promise<Said> {
    const n = ++this.#commands;
    this.#child.stdin.write(`${JSON.stringify({ n, ...what })}\n`);
    this.#child.stdin.flush();
    return this.hears(({ answer }) => answer === n);
  }

  /** The first that fits, now or later. @throws Error where it has ended without it */
  hears(fits: (said: Said) => boolean): Promise<Said> {
    return this.#until(() => this.said.find(fits));
  }

  async has(contents: unknown[]): Promise<void> {
    await this.#until(() => (this.contents.length >= contents.length ? true : undefined));
  }

  kill(): Promise<number> {
    this.#child.kill("SIGKILL");
    return this.exited;
  }

  #until<Found>(find: () => Found | undefined): Promise<Found> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = find();
        if (found !== undefined) {
          this.#watchers.delete(look);
          resolve(found);
        } else if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
          this.#watchers.delete(look);
          reject(new Error(`It ended: ${JSON.stringify(this.said.slice(-5))}`));
        }
      };
      this.#watchers.add(look);
      look();
    });
  }

  async #read(): Promise<void> {
    for await (const line of linesOf(this.#child.stdout)) {
      this.said.push(JSON.parse(line) as Said);
      for (const watcher of [...this.#watchers]) watcher();
    }
    await this.exited;
    for (const watcher of [...this.#watchers]) watcher();
  }
}
