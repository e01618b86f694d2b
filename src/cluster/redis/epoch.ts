/** Tells whether Redis still holds what it held: a mark that is another once Redis has come back empty, or another server is the master. */
import { type Commands, script } from "./commands.ts";

/**
 * A mark ends with the id of what its master writes, which is made anew where a replica becomes the master; who may not
 * ask for that goes by the rest alone.
 */
export const isMarkOfMaster = `
local function isMarkOfMaster(mark)
  local info = redis.pcall('INFO', 'replication')
  local history = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
  return history == '' or string.match(mark, '%x*$') == history, history
end`;

/** KEYS: mark, settling. ARGV: a new mark, the mark that is known, for how long after a loss is to be waited, ms. */
const markScript = script(`${isMarkOfMaster}
local mark = redis.call('GET', KEYS[1])
local isSame, history = isMarkOfMaster(mark or '')
if mark and isSame then return mark end
local fresh = ARGV[1] .. ' ' .. history
redis.call('SET', KEYS[1], fresh)
-- Who starts on an empty Redis knows of nothing that could be lost.
if (mark or ARGV[2] ~= '') and ARGV[3] ~= '0' then redis.call('SET', KEYS[2], fresh, 'PX', ARGV[3]) end
return fresh
`);

export interface EpochOptions {
  commands: Commands;
  key: string;
  newMark: () => string;
  /** A key that is there for some ms after a loss: until then not everybody may have put back what they know. */
  settling?: { key: string; ms: number };
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
    const { commands, key, newMark, settling } = this.options;
    const keys = [key, settling?.key ?? key];
    const mark = String(await commands.run(markScript, keys, [newMark(), this.known, settling?.ms ?? 0]));
    const lost = this.#known !== "" && this.#known !== mark;
    this.#known ||= mark;
    return { lost, mark };
  }

  /** To be called once what was lost has been put back. */
  accept(mark: string): void {
    this.#known = mark;
  }
}
