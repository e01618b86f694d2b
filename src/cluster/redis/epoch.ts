/** Tells whether Redis still holds the calls that it held: a mark that is another once Redis has come back empty, or another server is the master. */
import type { Commands } from "./commands.ts";
import type { Keys } from "./keys.ts";
import { markScript } from "./scripts.ts";

export interface EpochOptions {
  commands: Commands;
  keys: Pick<Keys, "callsEpoch" | "callsSettling">;
  newMark: () => string;
  /** For so long after a loss not everybody may have put back what they know. */
  settlingMs: number;
}

export class Epoch {
  #known = "";

  constructor(private readonly options: EpochOptions) {}

  /** The mark that was accepted last; empty before the first look. */
  get known(): string {
    return this.#known;
  }

  /**
   * @returns whether some or all of what is under the mark may have been lost since the last look: a replica may become
   *   the master before it has heard the last words of the former one; it is for the caller to `accept` the new mark
   */
  async look(): Promise<{ lost: boolean; mark: string }> {
    const { commands, keys, newMark, settlingMs } = this.options;
    const marked = [keys.callsEpoch, keys.callsSettling];
    const mark = String(await commands.run(markScript, marked, [newMark(), this.known, settlingMs]));
    const lost = this.#known !== "" && this.#known !== mark;
    this.#known ||= mark;
    return { lost, mark };
  }

  /** To be called once what was lost has been put back. */
  accept(mark: string): void {
    this.#known = mark;
  }
}
