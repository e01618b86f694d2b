/** Tries at the start each command that the service needs of Redis, so that a right that is missing is told then, by its name. */
import type { Commands } from "./commands.ts";
import type { StreamKeys } from "./stream.ts";
import { RedisUnavailable } from "./unavailable.ts";

type Probe = [command: string, ...args: (string | number)[]];

/** Lists commands that leave nothing behind: each makes what the next ones take away, on a key of its own. */
const probesOf = (key: string): Probe[] => [
  ["time"],
  ["hset", key, "field", 1],
  ["hget", key, "field"],
  ["hmget", key, "field"],
  ["hvals", key],
  ["hincrby", key, "field", 1],
  ["hdel", key, "field"],
  ["sadd", key, "member"],
  ["smembers", key],
  ["srem", key, "member"],
  ["zadd", key, 1, "member"],
  ["zscore", key, "member"],
  ["zcard", key],
  ["zrangebyscore", key, 0, 0],
  ["zrem", key, "member"],
  // Over what is left where one that takes away is not allowed; it goes by itself.
  ["set", key, "", "px", 1_000],
  ["get", key],
  ["exists", key],
  ["del", key],
];

/** Names an entry and a group that no stream has. */
const nothing = "0-0";
const nobody = "ws-service:nobody";

/** Lists commands on a stream of others that change nothing in it, whether or not it is there; most of them are refused for what they ask. */
const streamProbesOf = ({ stream, rejected, lease }: StreamKeys): Probe[] => [
  ["exists", lease],
  ["xadd", rejected, nothing, "field", ""],
  ["xlen", stream],
  ["xrange", stream, "-", "+", "count", 1],
  ["xread", "count", 1, "streams", stream, "$"],
  ["xdel", stream, nothing],
  ["xack", stream, nobody, nothing],
  ["xpending", stream, nobody],
  ["xautoclaim", stream, nobody, nobody, 0, nothing, "count", 1],
  ["xreadgroup", "group", nobody, nobody, "count", 1, "streams", stream, ">"],
  ["xtrim", stream, "minid", nothing],
  ["xgroup", "create", stream, nobody, "no id"],
  ["xinfo", "stream", stream],
  ["xinfo", "groups", stream],
];

export interface RightsOptions {
  commands: Pick<Commands, "call">;
  /** A key that nobody else uses. */
  key: string;
  /** The keys of the stream that is read; null: none. */
  stream: StreamKeys | null;
}

/** @throws RedisUnavailable where Redis does not let us, with its words for the first command, or where it cannot serve */
export async function tryRights({ commands, key, stream }: RightsOptions): Promise<void> {
  const probes = [...probesOf(key), ...(stream === null ? [] : streamProbesOf(stream))];
  // Written together, so they are one way to Redis and back.
  const tried = await Promise.allSettled(probes.map((probe) => commands.call(...probe)));
  const refused = tried
    .flatMap((it) => (it.status === "rejected" ? [it.reason] : []))
    // Any other answer says that the command is allowed.
    .filter((reason) => reason instanceof RedisUnavailable);
  if (refused.length > 0) throw refused.find(({ isOfSettings }) => isOfSettings) ?? refused[0];
}
