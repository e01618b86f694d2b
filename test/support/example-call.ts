/** A call that rings, for tests that only store it. */
import type { Call } from "../../src/cluster/call.ts";

export function exampleCall(changes: Partial<Call> = {}): Call {
  return {
    callId: crypto.randomUUID(),
    state: "ringing",
    media: "audio",
    conversationId: null,
    caller: { userId: "ann", deviceId: "a1", kept: [], offering: false },
    callee: { userId: "bob", deviceId: null, kept: [], offering: false },
    sdp: "offer",
    createdAt: 0,
    answeredAt: null,
    deadline: Date.now() + 60_000,
    told: [],
    end: null,
    missed: "no",
    ...changes,
  };
}
