/** Tells whether Redis still holds what it held: a mark that is another once Redis has come back empty, or another server is the master. */
import type { Commands } from "./commands.ts";
import { lookScript, type Script } from "./scripts.ts";

export interface RegistryMarkOptions {
  commands: Commands;
  /** The mark, and what is there while nodes put back what was lost; in the slot of what they stand for. */
  keys: { mark: string; settling: string };
  newMark: () => string;
  /** For so long after a loss not every node may have put back what it knows. */
  settlingMs: number;
}

export interface MarkedAnswer {
  mark: string;
  /**
   * Whether some or all of what is under the mark may have been lost since the one that was accepted: a replica may become
   * the master before it has heard the last words of the former one.
   */
  lost: boolean;
  /** Whether nodes may still have something to put back. */
  isSettling: boolean;
  /** Milliseconds since 1970 by Redis's clock. */
  at: number;
  /** Answer of the script after that. */
  rest: unknown[];
}

export class RegistryMark {
  #known = "";

  constructor(private readonly options: RegistryMarkOptions) {}

  /** The mark that was accepted last; empty before the first look. */
  get known(): string {
    return this.#known;
  }

  /** Runs a script that looks at the mark first. It is for the caller to `accept` a new one. @throws RedisUnavailable */
  async run(script: Script, keys: string[], args: (string | number)[]): Promise<MarkedAnswer> {
    const { commands, keys: own, newMark, settlingMs } = this.options;
    const answer = await commands.run(
      script,
      [own.mark, own.settling, ...keys],
      [newMark(), this.#known, settlingMs, ...args],
    );
    const [mark, settling, at, ...rest] = answer as [string, number, number, ...unknown[]];
    const lost = this.#known !== "" && this.#known !== mark;
    this.#known ||= mark;
    return { mark, lost, isSettling: settling === 1, at, rest };
  }

  /** @throws RedisUnavailable */
  look(): Promise<MarkedAnswer> {
    return this.run(lookScript, [], []);
  }

  /** Takes the mark for the one that is known; where something was lost, once it is put back or about to be. */
  accept(mark: string): void {
    this.#known = mark;
  }
}
