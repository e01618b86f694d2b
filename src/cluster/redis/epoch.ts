/** Tells whether Redis still holds what it held: a mark that is another once Redis has come back empty, or another server is the master. */
import { type Commands, script } from "./commands.ts";

/** The id of what a master writes is made anew where a replica becomes the master; who may not ask goes by the key alone. */
const markScript = script(`
local mark = redis.call('GET', KEYS[1])
if not mark then
  mark = ARGV[1]
  redis.call('SET', KEYS[1], mark)
end
local info = redis.pcall('INFO', 'replication')
local history = type(info) == 'string' and string.match(info, 'master_replid:(%x+)')
return mark .. ' ' .. (history or '')
`);

export class Epoch {
  #known: string | null = null;

  constructor(private readonly options: { commands: Commands; key: string; newMark: () => string }) {}

  /**
   * @returns whether some or all of what is under the mark may have been lost since the last look: a replica may become
   *   the master before it has heard the last words of the former one; it is for the caller to `accept` that
   */
  async look(): Promise<{ lost: boolean; accept: () => void }> {
    const { commands, key, newMark } = this.options;
    const mark = String(await commands.run(markScript, [key], [newMark()]));
    const lost = this.#known !== null && this.#known !== mark;
    this.#known ??= mark;
    return { lost, accept: () => (this.#known = mark) };
  }
}
