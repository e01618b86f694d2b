/** Keeps the calls of all nodes in Redis: read, decided on here, and written only if nothing has changed meanwhile [CALL2]. */

import { InvariantBroken } from "../../ground/assert.ts";
import { BoundedMap } from "../../ground/bounded-map.ts";
import { Gathering } from "../../ground/gathering.ts";
import { KeyedQueue } from "../../ground/keyed-queue.ts";
import { pages } from "../../ground/pages.ts";
import { Unavailable } from "../../ground/unavailable.ts";
import { type BrokenReporting, noteBroken } from "../../telemetry/broken.ts";
import type { Call } from "../call.ts";
import { type CallRegistry, dueLeaseMs } from "../ports.ts";
import type { Commands } from "./commands.ts";
import type { Keys } from "./keys.ts";
import type { RegistryMark } from "./mark.ts";
import { callScripts, type Script } from "./scripts.ts";
import { RedisUnavailable } from "./unavailable.ts";

export interface RedisCallRegistryOptions extends BrokenReporting {
  commands: Commands;
  keys: Keys;
  registryMark: RegistryMark;
  /** Calls that this node was the last to change and that it remembers to put them back. */
  rememberedMax: number;
}

/** A call as it is written. */
interface StoredCall {
  callId: string;
  json: string;
  caller: string;
  callee: string;
  /** Milliseconds since 1970, as text: Lua's numbers would be written with an exponent. */
  deadline: string;
}

type Step<Result> = (calls: Call[]) => { put: Call[]; forget?: string[]; result: Result };

/** Each round one of those who want the same call wins, and of one node only one is in it. */
const attemptsMax = 64;
const atOnce = 200;
/** Users whose calls are read by one script, and such scripts under way: what comes meanwhile goes together. */
const [usersAtOnce, underWayMax] = [100, 1];
/** For so long is asked whether a write has come to Redis: a restart or a new master takes no longer as a rule. */
const writesMax = 20;
const writeAgainMs = 250;

export class RedisCallRegistry implements CallRegistry {
  /** By call: a node need not compete with itself. */
  readonly #queue = new KeyedQueue();
  /** Asks for the calls of many users together, where many come at once. */
  readonly #callsOf: Gathering<string, Call[]>;
  readonly #remembered: BoundedMap<string, StoredCall & { version: string }>;
  #restoring: Promise<void> | null = null;

  constructor(private readonly options: RedisCallRegistryOptions) {
    this.#remembered = new BoundedMap(options.rememberedMax);
    this.#callsOf = new Gathering({
      ask: (userIds) => this.#readOfUsers(userIds),
      ...{ atOnceMax: usersAtOnce, underWayMax },
    });
  }

  /**
   * @throws Unavailable while Redis is away, while nodes put back what it has lost, or where others were always faster
   */
  async transact<Result>(key: { callId: string; userIds: string[] }, step: Step<Result>): Promise<Result> {
    return this.#queue.run(key.callId, () => this.#transact(key, step));
  }

  async get(callId: string): Promise<Call | null> {
    return (await this.#read({ callId, userIds: [] })).calls[0] ?? null;
  }

  callsOf(userId: string): Promise<Call[]> {
    return this.#callsOf.ask(userId);
  }

  async takeDue(now: number, limit: number): Promise<string[]> {
    const args = [now, limit, now + dueLeaseMs];
    return (await this.#run(callScripts.takeDue, args)) as string[];
  }

  async stats(): Promise<{ calls: number }> {
    const { commands, keys } = this.options;
    return { calls: Number(await commands.call("zcard", keys.due)) };
  }

  /** Puts back what Redis has lost; forgets what others have changed since. @throws RedisUnavailable */
  restore(): Promise<void> {
    this.#restoring ??= this.#restore().finally(() => (this.#restoring = null));
    return this.#restoring;
  }

  async #restore(): Promise<void> {
    const { commands, registryMark, keys } = this.options;
    const { lost, mark } = await registryMark.look();
    for (const some of pages([...this.#remembered.values()], atOnce)) {
      if (lost) {
        const renewed = (await commands.run(
          callScripts.restore,
          [keys.due],
          [keys.callsPrefix, mark, JSON.stringify(some)],
        )) as string[];
        for (let at = 0; at < renewed.length; at += 2) {
          const call = this.#remembered.get(renewed[at]!);
          if (call !== undefined && some.includes(call))
            this.#remembered.set(call.callId, { ...call, version: renewed[at + 1]! });
        }
      } else {
        const versions = some.flatMap(({ callId, version }) => [callId, version]);
        const stale = (await commands.run(
          callScripts.stale,
          [keys.due],
          [keys.callsPrefix, mark, ...versions],
        )) as string[];
        for (const callId of stale) {
          // Unless this node has changed it while the answer was on its way.
          if (some.includes(this.#remembered.get(callId)!)) this.#remembered.delete(callId);
        }
      }
    }
    registryMark.accept(mark);
  }

  async #transact<Result>(key: { callId: string; userIds: string[] }, step: Step<Result>): Promise<Result> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { calls, versions } = await this.#read(key);
      const { put, forget = [], result } = step(calls);
      if (put.length === 0 && forget.length === 0) return result;
      const written = put.map(write);
      const asked = JSON.stringify({ ...key, versions, put: written, forget });
      const fresh = await this.#write(asked);
      if (fresh === null) continue;
      for (const [at, call] of written.entries())
        this.#noteWritten({ ...call, version: fresh[at]! }, versions[call.callId] ?? "0");
      for (const callId of forget) this.#remembered.delete(callId);
      return result;
    }
    throw new Unavailable("cluster", "Too many want to change this call at once.", { isPublic: true });
  }

  /**
   * An answer that is lost says nothing about the write, and whoever changed a call has its devices to tell: nobody else
   * would. So it is asked for again until Redis is back.
   * @returns the new versions; null where something has changed @throws RedisUnavailable where nobody knows
   */
  async #write(asked: string): Promise<string[] | null> {
    const write = async (isRepeated: 0 | 1) => {
      return (await this.#run(callScripts.write, [asked, isRepeated])) as string[] | null;
    };
    let lost: unknown;
    for (let attempt = 0; attempt < writesMax; attempt++) {
      try {
        if (attempt === 0) return await write(0);
        await Bun.sleep(writeAgainMs);
        const versions = await write(1);
        if (versions !== null) return versions;
        break;
      } catch (error) {
        if (!(error instanceof RedisUnavailable)) throw error;
        lost ??= error;
      }
    }
    throw lost;
  }

  async #readOfUsers(userIds: string[]): Promise<Call[][]> {
    // No call has the empty id.
    const { calls } = await this.#read({ callId: "", userIds });
    return userIds.map((userId) =>
      calls.filter(({ caller, callee }) => [caller.userId, callee.userId].includes(userId)),
    );
  }

  async #read({ callId, userIds }: { callId: string; userIds: string[] }) {
    const found = (await this.#run(callScripts.read, [callId, ...userIds])) as string[];
    const calls: Call[] = [];
    const versions: Record<string, string> = {};
    for (let at = 0; at < found.length; at += 2) {
      const call = JSON.parse(found[at + 1]!) as Call;
      calls.push(call);
      versions[call.callId] = found[at]!;
    }
    return { calls, versions };
  }

  /**
   * Remembers a call to put it back after a loss; not one that is older than what it was made of, which could undo what is
   * newer. It is as old where it was written as it was and a first try had not come to Redis: the second finds it there.
   */
  #noteWritten(call: StoredCall & { version: string }, before: string): void {
    const { callId, version } = call;
    if (Number(version) >= Number(before)) return void this.#remembered.set(call.callId, call);
    this.#remembered.delete(callId);
    noteBroken(new InvariantBroken("call_version", { callId, version, before }), this.options);
  }

  /** Runs a script on the calls that this node knows of. @throws Unavailable also while calls that Redis has lost are put back */
  async #run(script: Script, args: (string | number)[]): Promise<unknown> {
    const { commands, registryMark, keys } = this.options;
    try {
      return await commands.run(script, [keys.due], [keys.callsPrefix, registryMark.known, ...args]);
    } catch (error) {
      // Puts back what is missing there at once; the next heartbeat would be late.
      if (error instanceof RedisUnavailable && error.reply === "LOST") void this.restore().catch(() => {});
      throw error;
    }
  }
}

function write(call: Call): StoredCall {
  return {
    callId: call.callId,
    json: JSON.stringify(call),
    caller: call.caller.userId,
    callee: call.callee.userId,
    deadline: String(call.deadline),
  };
}
