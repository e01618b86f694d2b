/** Tells whether Redis still holds what it held: a mark that is gone once Redis has come back empty. */
import { type Commands, script } from "./commands.ts";

const markScript = script(`
local mark = redis.call('GET', KEYS[1])
if mark then return mark end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
`);

export class Epoch {
  #known: string | null = null;

  constructor(private readonly options: { commands: Commands; key: string; newMark: () => string }) {}

  /** @returns whether everything under the mark was lost since the last look; it is for the caller to `accept` that */
  async look(): Promise<{ lost: boolean; accept: () => void }> {
    const { commands, key, newMark } = this.options;
    const mark = String(await commands.run(markScript, [key], [newMark()]));
    const lost = this.#known !== null && this.#known !== mark;
    this.#known ??= mark;
    return { lost, accept: () => (this.#known = mark) };
  }
}
