/** Rules of cursors and watermarks: they only go forward, and what they say is true [LOG4] [LOG6] [REC]. */
import { partsOf, positionOf } from "../cursors.ts";
import { type ConnectionFacts, type DeviceFacts, type Facts, repliesTo } from "./facts.ts";
import type { LoggedMessage } from "./history.ts";
import type { Finding, Rule } from "./rule.ts";

/** Follows numbers by name and finds where one is lower than it was. */
class Forward {
  readonly findings: Finding[] = [];
  readonly #last = new Map<string, { value: number; evidence: unknown }>();

  note(name: string, value: number, evidence: unknown): void {
    const last = this.#last.get(name);
    if (last !== undefined && value < last.value)
      this.findings.push({
        text: `${name} went back from ${last.value} to ${value}`,
        evidence: [last.evidence, evidence],
      });
    if (last === undefined || value > last.value) this.#last.set(name, { value, evidence });
  }
}

const forwardOnly: Rule = {
  id: "forward-only",
  says: "cursors, acknowledgements and watermarks never go back [LOG4] [LOG6] [REC1] [REC2]",
  look: (facts) => [
    ...facts.devices.flatMap((device) => [...cursorsOf(device), ...marksOf(device)]),
    ...forgottenMarks(facts),
    ...receiptsOf(facts),
  ],
};

function cursorsOf({ name, connections }: DeviceFacts): Finding[] {
  const forward = new Forward();
  const noteCursor = (what: string, cursor: string, evidence: unknown) => {
    const { epoch, position } = partsOf(cursor);
    forward.note(`${what} in ${epoch}`, position, evidence);
  };
  for (const [index, { connection, exchanges }] of connections.entries()) {
    for (const entry of connection.entries) {
      if (entry.kind !== "message") continue;
      const { type, payload } = entry.message;
      if ((type === "pong" || type === "subscribed") && payload.cursor !== undefined)
        noteCursor(`the cursor of ${name} on connection ${index + 1}`, payload.cursor, entry.message);
    }
    for (const { request, message } of repliesTo(exchanges, "ack")) {
      if (message.type !== "ack") continue;
      noteCursor(`the acknowledgement of ${name}`, message.payload.cursor, message);
      if (positionOf(message.payload.cursor) < positionOf(request.payload.cursor))
        forward.findings.push({ text: `${name} was not believed`, evidence: [request.payload, message] });
    }
  }
  return forward.findings;
}

export const kindOf = ({ type, payload }: { type: string; payload: any }) =>
  type === "mark.delivered" ? "delivered" : payload.private === true ? "private" : "read";

function marksOf({ name, connections }: DeviceFacts): Finding[] {
  const forward = new Forward();
  for (const { connection, exchanges } of connections) {
    for (const type of ["mark.delivered", "mark.read"]) {
      for (const { request, message } of repliesTo(exchanges, type)) {
        if (message.type !== "ack") continue;
        const what = `${kindOf(request)} in ${request.payload.conversation_id}`;
        forward.note(`${name}: ${what}`, message.payload.up_to_seq, message);
      }
    }
    for (const entry of connection.entries) {
      if (entry.kind !== "message" || entry.message.type !== "subscribed") continue;
      for (const { topic, snapshot } of entry.message.payload.topics) {
        if (snapshot?.read_seq === undefined) continue;
        forward.note(`${name}: read_seq of ${topic}`, snapshot.read_seq, snapshot);
        forward.note(`${name}: delivered_seq of ${topic}`, snapshot.delivered_seq, snapshot);
      }
    }
  }
  return forward.findings;
}

/** Finds answers that lack what was acknowledged to any device of a user before it asked; every answer must have it. */
function forgottenMarks({ devices }: Facts): Finding[] {
  const marks = devices.flatMap(({ device, connections }) =>
    connections.flatMap(({ exchanges }) =>
      ["mark.delivered", "mark.read"]
        .flatMap((type) => repliesTo(exchanges, type))
        .filter(({ message }) => message.type === "ack")
        .map(({ request, order, message }) => ({
          key: `${device.userId} conversation:${request.payload.conversation_id}`,
          kind: kindOf(request),
          order,
          seq: message.payload.up_to_seq as number,
        })),
    ),
  );
  const byKey = Map.groupBy(marks, ({ key }) => key);
  const findings: Finding[] = [];
  for (const { device, name, connections } of devices) {
    for (const { request, message } of connections.flatMap(({ exchanges }) => repliesTo(exchanges, "subscribe"))) {
      if (message.type !== "subscribed") continue;
      for (const { topic, snapshot } of message.payload.topics) {
        if (snapshot?.read_seq === undefined) continue;
        for (const mark of byKey.get(`${device.userId} ${topic}`) ?? []) {
          if (mark.order > request.order) continue;
          const forgotten =
            mark.kind === "delivered"
              ? mark.seq > snapshot.delivered_seq
              : mark.seq > snapshot.read_seq || (mark.kind === "read" && mark.seq > snapshot.delivered_seq);
          if (forgotten)
            findings.push({ text: `a mark of ${name} on ${topic} was forgotten`, evidence: [mark, snapshot] });
        }
      }
    }
  }
  return findings;
}

function receiptsOf({ known }: Facts): Finding[] {
  const forward = new Forward();
  for (const [topic, events] of known) {
    for (const event of [...events.values()].sort((one, other) => one.seq - other.seq)) {
      if (event.type !== "message.read" && event.type !== "message.delivered") continue;
      const { user_id, conversation_id, up_to_seq } = event.payload;
      forward.note(`${event.type} of ${user_id} in ${conversation_id} on ${topic}`, up_to_seq, event);
    }
  }
  return forward.findings;
}

const cursorTrue: Rule = {
  id: "cursor-true",
  says: "once a cursor is given, everything up to it has been sent on the connection [LOG4]",
  look: ({ devices }) =>
    devices.flatMap(({ name, connections }) => connections.flatMap((it) => behindCursor(name, it))),
};

function behindCursor(name: string, { connection, liveFrom }: ConnectionFacts): Finding[] {
  const findings: Finding[] = [];
  let cursor = 0;
  let epoch = "";
  for (const { order, ...entry } of connection.entries) {
    if (liveFrom === null || order < liveFrom || entry.kind !== "message") continue;
    const { type, payload, position, topic, reply_to } = entry.message;
    if ((type === "pong" || type === "subscribed") && payload.cursor !== undefined) {
      const given = partsOf(payload.cursor);
      // Of a log that has gone back the places are given out anew.
      cursor = given.epoch === epoch ? Math.max(cursor, given.position) : given.position;
      epoch = given.epoch;
    }
    if (position !== undefined && reply_to === undefined && position <= cursor)
      findings.push({ text: `${name} was given ${cursor}, then ${topic} at ${position}`, evidence: [entry.message] });
  }
  return findings;
}

const unreadTrue: Rule = {
  id: "unread-true",
  says: "at rest `unread` counts the messages of others above `read_seq` that are not deleted [REC3] [MSG2]",
  atRest: true,
  look({ history, devices, logs }) {
    const findings: Finding[] = [];
    for (const { device, name, present } of devices) {
      const last = repliesTo(present?.exchanges ?? [], "subscribe").findLast(
        ({ order }) => order > history.rest!.order,
      );
      for (const { topic, snapshot } of last?.message.payload.topics ?? []) {
        const log = logs.get(topic);
        if (log === undefined || snapshot?.unread === undefined) continue;
        const isUnread = ({ type, seq, payload }: LoggedMessage) =>
          type === "message.new" &&
          payload.content !== null &&
          payload.sender_id !== device.userId &&
          seq > snapshot.read_seq;
        const unread = [...log.values()].filter(isUnread).length;
        if (unread !== snapshot.unread)
          findings.push({
            text: `${name} has ${unread} unread on ${topic}, and was told otherwise`,
            evidence: [snapshot],
          });
      }
    }
    return findings;
  },
};

export const placeRules: Rule[] = [forwardOnly, cursorTrue, unreadTrue];
