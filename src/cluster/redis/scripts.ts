/** Puts the Lua scripts of `lua/` together, each with the shared parts that it needs in front; what each takes and returns stands in its file. */
import answer from "./lua/answer.lua" with { type: "text" };
import callsMarked from "./lua/calls-marked.lua" with { type: "text" };
import callsRead from "./lua/calls-read.lua" with { type: "text" };
import callsRestore from "./lua/calls-restore.lua" with { type: "text" };
import callsSettled from "./lua/calls-settled.lua" with { type: "text" };
import callsShared from "./lua/calls-shared.lua" with { type: "text" };
import callsStale from "./lua/calls-stale.lua" with { type: "text" };
import callsTakeDue from "./lua/calls-take-due.lua" with { type: "text" };
import callsWrite from "./lua/calls-write.lua" with { type: "text" };
import clock from "./lua/clock.lua" with { type: "text" };
import look from "./lua/look.lua" with { type: "text" };
import mark from "./lua/mark.lua" with { type: "text" };
import nodesBeat from "./lua/nodes-beat.lua" with { type: "text" };
import nodesDead from "./lua/nodes-dead.lua" with { type: "text" };
import nodesRemove from "./lua/nodes-remove.lua" with { type: "text" };
import presenceRead from "./lua/presence-read.lua" with { type: "text" };
import presenceWrite from "./lua/presence-write.lua" with { type: "text" };
import streamGroups from "./lua/stream-groups.lua" with { type: "text" };
import streamLag from "./lua/stream-lag.lua" with { type: "text" };
import streamRelease from "./lua/stream-release.lua" with { type: "text" };
import streamRemove from "./lua/stream-remove.lua" with { type: "text" };
import streamTake from "./lua/stream-take.lua" with { type: "text" };

/** A Lua script; it is sent whole only to a server that does not know it yet. */
export interface Script {
  lua: string;
  sha: string;
}

function script(...parts: string[]): Script {
  const lua = parts.join("\n");
  return { lua, sha: new Bun.CryptoHasher("sha1").update(lua).digest("hex") };
}

const answered = [mark, answer];
export const lookScript = script(...answered, look);
export const presenceScripts = {
  read: script(...answered, presenceRead),
  write: script(...answered, presenceWrite),
};

const callsMarkedBy = [mark, callsMarked];
const callsDecided = [...callsMarkedBy, callsSettled];
export const callScripts = {
  read: script(...callsDecided, callsShared, callsRead),
  write: script(...callsDecided, callsShared, callsWrite),
  takeDue: script(...callsDecided, callsTakeDue),
  stale: script(...callsMarkedBy, callsStale),
  restore: script(...callsMarkedBy, callsShared, callsRestore),
};

export const nodeScripts = {
  beat: script(clock, nodesBeat),
  dead: script(clock, nodesDead),
  remove: script(nodesRemove),
};

export const streamScripts = {
  take: script(streamGroups, streamTake),
  remove: script(streamGroups, streamRemove),
  lag: script(streamGroups, streamLag),
  release: script(streamRelease),
};
