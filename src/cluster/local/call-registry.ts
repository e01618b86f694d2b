/** Keeps the calls of a node that is alone: in memory, each transaction in one turn of the loop. */
import type { AtOnce } from "../../ground/at-once.ts";
import { Multimap } from "../../ground/multimap.ts";
import type { Call } from "../call.ts";
import { type CallRegistry, dueLeaseMs } from "../ports.ts";

export class LocalCallRegistry implements CallRegistry {
  readonly #calls = new Map<string, Call>();
  readonly #idsOfUser = new Multimap<string, string>();
  /** Until when (ms) a due call is the business of the one who took it. */
  readonly #leases = new Map<string, number>();

  async transact<Result>(
    { callId, userIds }: { callId: string; userIds: string[] },
    step: (calls: Call[]) => { put: Call[]; forget?: string[]; result: Result },
  ): Promise<Result> {
    const callIds = new Set([callId, ...userIds.flatMap((userId) => this.#idsOfUser.of(userId))]);
    const { put, forget = [], result } = step(this.#copies(callIds));
    for (const call of put) this.#put(call);
    for (const id of forget) this.#forget(id);
    return result;
  }

  async get(callId: string): Promise<Call | null> {
    return this.#copies([callId])[0] ?? null;
  }

  callsOf(userId: string): AtOnce<Call[]> {
    return this.#copies(this.#idsOfUser.of(userId));
  }

  async takeDue(now: number, limit: number): Promise<string[]> {
    const due: Call[] = [];
    for (const call of this.#calls.values()) {
      if (call.deadline <= now && (this.#leases.get(call.callId) ?? 0) <= now) due.push(call);
    }
    const taken = due.sort((one, other) => one.deadline - other.deadline).slice(0, limit);
    for (const { callId } of taken) this.#leases.set(callId, now + dueLeaseMs);
    return taken.map(({ callId }) => callId);
  }

  endingWithNode(): string[] {
    return [...this.#calls.values()].filter(({ state }) => state !== "ended").map(({ callId }) => callId);
  }

  async stats(): Promise<{ calls: number }> {
    return { calls: this.#calls.size };
  }

  /** Copies, as from a store far away: what somebody does with one changes nothing here. */
  #copies(callIds: Iterable<string>): Call[] {
    const found: Call[] = [];
    for (const callId of callIds) {
      const call = this.#calls.get(callId);
      if (call) found.push(structuredClone(call));
    }
    return found;
  }

  #put(call: Call): void {
    this.#calls.set(call.callId, structuredClone(call));
    this.#leases.delete(call.callId);
    for (const { userId } of [call.caller, call.callee]) this.#idsOfUser.add(userId, call.callId);
  }

  #forget(callId: string): void {
    const call = this.#calls.get(callId);
    if (!call) return;
    this.#calls.delete(callId);
    this.#leases.delete(callId);
    for (const { userId } of [call.caller, call.callee]) this.#idsOfUser.remove(userId, callId);
  }
}
