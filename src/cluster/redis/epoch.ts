/** Tells whether Redis still holds the calls that it held: a mark that is another once Redis has come back empty, or another server is the master. */
import { type Commands, script } from "./commands.ts";
import type { Keys } from "./keys.ts";

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
-- Who starts on an empty Redis knows of nothing that could be lost; one that does may come to it later.
local isEarly = mark and string.find(mark, '^first ') and ARGV[2] ~= '' and ARGV[2] ~= mark
if mark and isSame and not isEarly then return mark end
local isFirst = not mark and ARGV[2] == ''
local fresh = (isFirst and 'first ' or '') .. ARGV[1] .. ' ' .. history
redis.call('SET', KEYS[1], fresh)
if not isFirst then redis.call('SET', KEYS[2], fresh, 'PX', ARGV[3]) end
return fresh
`);

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
