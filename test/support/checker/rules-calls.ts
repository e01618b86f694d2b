/** Rules of calls: one answer, and one end for everybody who was told [CALL2] [CALL4]. */
import type { Received } from "../client.ts";
import type { DeviceFacts, Facts } from "./facts.ts";
import type { Finding, Rule } from "./rule.ts";

interface EndTold {
  /** Counted among the device's own. */
  connection: number;
  order: number;
  message: Received;
}

interface CallSeen {
  callId: string;
  offeredAt: number;
  /** When somebody hung up, or the end was first told. Infinite: nobody did. */
  endingAt: number;
  answeredBy: Set<DeviceFacts>;
  answersTold: { device: DeviceFacts; message: Received }[];
  /** With the moment they were told of it. */
  told: Map<DeviceFacts, number>;
  ended: Map<DeviceFacts, EndTold[]>;
  /** When a device came back to none of it any more, where it did [CALL7]. */
  goneAt: Map<DeviceFacts, number>;
}

/** Ends that are one device's only. */
const elsewhere = new Set(["answered_elsewhere", "declined_elsewhere"]);

function callsOf({ devices }: Facts): CallSeen[] {
  const calls = new Map<string, CallSeen>();
  const of = (callId: string): CallSeen => {
    const call: CallSeen = calls.get(callId) ?? {
      callId,
      offeredAt: Number.POSITIVE_INFINITY,
      endingAt: Number.POSITIVE_INFINITY,
      answeredBy: new Set(),
      answersTold: [],
      told: new Map(),
      ended: new Map(),
      goneAt: new Map(),
    };
    calls.set(callId, call);
    return call;
  };
  const noteSnapshot = (device: DeviceFacts, order: number, listed: Set<string>) => {
    for (const { callId, told, goneAt } of calls.values())
      if (told.get(device)! < order && !goneAt.has(device) && !listed.has(callId)) goneAt.set(device, order);
  };
  for (const device of devices) {
    for (const [index, { connection, exchanges }] of device.connections.entries()) {
      for (const { type, payload, order, replies } of exchanges) {
        const accepted = replies.some(({ message }) => message.type === "ack");
        if (type === "call.offer") {
          const call = of(payload.call_id);
          call.offeredAt = Math.min(call.offeredAt, order);
          if (accepted) call.told.set(device, order);
        } else if (type === "call.answer" && accepted) of(payload.call_id).answeredBy.add(device);
        else if (type === "call.hangup") of(payload.call_id).endingAt = Math.min(of(payload.call_id).endingAt, order);
      }
      for (const entry of connection.entries) {
        // On the `user` topic it is the log's note of a missed call [CALL6].
        if (entry.kind !== "message" || entry.message.seq !== undefined) continue;
        const { type, payload } = entry.message;
        const shown = type === "subscribed" ? callsShown(payload) : null;
        if (shown !== null) noteSnapshot(device, entry.order, shown);
        if (type === "call.incoming" && !of(payload.call_id).told.has(device))
          of(payload.call_id).told.set(device, entry.order);
        if (type === "call.answer") of(payload.call_id).answersTold.push({ device, message: entry.message });
        if (type !== "call.ended") continue;
        const call = of(payload.call_id);
        const told = { connection: index, order: entry.order, message: entry.message };
        call.ended.set(device, [...(call.ended.get(device) ?? []), told]);
        if (!elsewhere.has(payload.reason)) call.endingAt = Math.min(call.endingAt, entry.order);
      }
    }
  }
  return [...calls.values()];
}

/** @returns the ids of the calls in a snapshot of `calls`; null: there is none */
function callsShown({ topics }: Received["payload"]): Set<string> | null {
  const { snapshot } = topics.find(({ topic }: { topic: string }) => topic.startsWith("calls:")) ?? {};
  return snapshot === undefined ? null : new Set(snapshot.calls.map(({ call_id }: { call_id: string }) => call_id));
}

const oneAnswer: Rule = {
  id: "one-answer",
  says: "a call has one answer [CALL2]",
  look: (facts) =>
    callsOf(facts).flatMap(({ callId, answeredBy, answersTold }) => [
      ...(answeredBy.size > 1
        ? [
            {
              text: `${callId} was answered by more than one device`,
              evidence: [...answeredBy].map(({ name }) => name),
            },
          ]
        : []),
      ...(answersTold.length > 1
        ? [{ text: `${callId}'s caller got more than one answer`, evidence: answersTold.map(({ message }) => message) }]
        : []),
    ]),
};

const oneEnd: Rule = {
  id: "one-end",
  says: "nobody is told of a call's end twice [CALL4]",
  look: (facts) =>
    callsOf(facts).flatMap(({ callId, offeredAt, ended }) =>
      (isForgotten(facts, offeredAt) ? [] : [...ended])
        .filter(([, told]) => told.length > 1)
        .map(([{ name }, told]) => ({ text: `${name} was told the end of ${callId} twice`, evidence: told })),
    ),
};

/** A call is lost where Redis loses it and the node that changed it last dies before it has put it back. */
function isForgotten({ history: { memoryLosses } }: Facts, offeredAt: number): boolean {
  const [nodes, redis] = (["node", "Redis"] as const).map((of) => memoryLosses.filter((loss) => loss.of === of));
  return nodes!.some((node) =>
    redis!.some(({ from, to }) => node.from < to && from < node.to && offeredAt < Math.min(node.to, to)),
  );
}

const everyEnd: Rule = {
  id: "every-end",
  says: "at rest everybody who was told of a call, and was there at its end, has been told of its end [CALL4]",
  atRest: true,
  look: (facts) => callsOf(facts).flatMap((call) => notTold(facts, call)),
};

function notTold({ history }: Facts, { callId, offeredAt, endingAt, told, ended, goneAt }: CallSeen): Finding[] {
  // A node that is alone forgets its calls when it dies.
  if (history.memoryLosses.some(({ to }) => to > offeredAt)) return [];
  return [...told].flatMap(([device, toldAt]) => {
    const { name, present } = device;
    // Its end may be seen late: it was before a device that came back was shown no such call.
    const endedAt = Math.min(endingAt, goneAt.get(device) ?? Number.POSITIVE_INFINITY);
    // Signals are not logged: what was on its way to a connection that broke off is gone.
    const wasThere = present !== null && (present.liveFrom ?? Number.POSITIVE_INFINITY) < Math.max(endedAt, toldAt);
    if (!wasThere || ended.has(device)) return [];
    return [{ text: `${name} was never told the end of ${callId}`, evidence: [{ offeredAt, toldAt, endingAt }] }];
  });
}

export const callRules: Rule[] = [oneAnswer, oneEnd, everyEnd];
