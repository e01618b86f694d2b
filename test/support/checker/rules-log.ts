/** Rules of the log: nothing acknowledged is lost, doubled, reordered or invented [LOG] [MSG1]. */
import { type DeviceFacts, type Facts, keyIn, pagesOf, saidOn, wasAskedFor } from "./facts.ts";
import type { LoggedMessage } from "./history.ts";
import { isUnrecovered } from "./losses.ts";
import type { Finding, Rule } from "./rule.ts";

const conversationOf = (topic: string) => topic.slice("conversation:".length);

/** Of events with one key only the newest is kept [LOG7] [MSG2] [MSG3]; null: it stays. */
function compactionKey({ type, payload }: LoggedMessage): string | null {
  switch (type) {
    case "message.read":
    case "message.delivered":
      return `${type} ${payload.user_id}`;
    case "message.edited":
    case "message.deleted":
      return `edit ${payload.message_id}`;
    case "message.reaction":
      return `${type} ${payload.message_id} ${payload.user_id} ${payload.reaction}`;
    default:
      return null;
  }
}

/** Finds those who are there at the end and had subscribed to the topic before the event. */
function owedTo({ history, devices }: Facts, { topic, seq }: { topic: string; seq: number }): DeviceFacts[] {
  const members = history.conversations.find((it) => it.conversationId === conversationOf(topic))?.userIds ?? [];
  return devices.filter(
    ({ device, present, baselines }) =>
      present !== null && members.includes(device.userId) && seq > (baselines.get(topic) ?? Number.POSITIVE_INFINITY),
  );
}

const ackedDelivered: Rule = {
  id: "acked-delivered",
  says: "what was acknowledged is delivered to every device of every member, resumes counted [LOG1] [LOG3] [LOG6]",
  atRest: true,
  look: (facts) =>
    facts.acked.flatMap((acked) =>
      owedTo(facts, acked)
        .filter(({ sent, received }) => !sent.has(acked.clientMessageId) && !received.get(acked.topic)?.has(acked.seq))
        .map(({ name }) => ({
          text: `${name} never got ${acked.clientMessageId} (${acked.topic} ${acked.seq}), acknowledged to ${acked.device.name}`,
          evidence: [{ ...acked, device: acked.device.name }],
        })),
    ),
};

const noHoles: Rule = {
  id: "no-holes",
  says: "a message or an own event that one has, all have; in the log numbers are missing only below what has replaced them [LOG3] [LOG7]",
  atRest: true,
  look: (facts) => [...missingMessages(facts), ...logHoles(facts), ...unrecovered(facts)],
};

function missingMessages(facts: Facts): Finding[] {
  const findings: Finding[] = [];
  for (const [topic, events] of facts.known) {
    if (!topic.startsWith("conversation:")) continue;
    for (const event of events.values()) {
      if (compactionKey(event) !== null) continue;
      for (const { name, sent, received } of owedTo(facts, event)) {
        if (sent.has(keyIn(event)) || received.get(topic)?.has(event.seq)) continue;
        findings.push({ text: `${name} misses ${topic} ${event.seq}, which others have`, evidence: [event] });
      }
    }
  }
  return findings;
}

function logHoles({ logs, acked, known }: Facts): Finding[] {
  const findings: Finding[] = [];
  for (const [topic, events] of logs) {
    const last = Math.max(...events.keys());
    const newest = newestByKey([...events.values()]);
    const newestOfAny = Math.max(0, ...newest.values());
    const isDeleted = (messageId: string) =>
      [...events.values()].some(({ payload }) => payload.message_id === messageId && payload.content === null);
    for (let seq = 1; seq < last; seq++) {
      if (events.has(seq)) continue;
      const missing = known.get(topic)?.get(seq);
      const key = missing === undefined ? undefined : compactionKey(missing);
      const replacedBy = key === undefined ? newestOfAny : key === null ? 0 : (newest.get(key) ?? 0);
      if (seq < replacedBy) continue;
      // With a message go its reactions.
      if (missing?.type === "message.reaction" && isDeleted(missing.payload.message_id)) continue;
      const evidence = [{ topic, last }, ...(missing === undefined ? [] : [missing])];
      findings.push({ text: `the log of ${topic} has no ${seq} and nothing that has replaced it`, evidence });
    }
  }
  for (const { topic, seq, position, id, clientMessageId, device } of acked) {
    const kept = logs.get(topic)?.get(seq);
    if (!logs.has(topic) || (kept?.position === position && (id === null || kept.id === id))) continue;
    findings.push({ text: `${clientMessageId} of ${device.name} is not in the log`, evidence: [{ topic, seq, id }] });
  }
  return findings;
}

function newestByKey(events: LoggedMessage[]): Map<string, number> {
  const newest = new Map<string, number>();
  for (const event of events) {
    const key = compactionKey(event);
    if (key !== null) newest.set(key, Math.max(event.seq, newest.get(key) ?? 0));
  }
  return newest;
}

function unrecovered({ history, devices }: Facts): Finding[] {
  const lostFrom = Math.min(...history.logLosses.map(({ from }) => from));
  return devices.flatMap(({ name, connections }) =>
    connections.flatMap(({ connection }) =>
      connection.entries
        .filter((entry) => entry.kind === "message" && isUnrecovered(entry.message) && entry.order < lostFrom)
        .map((entry) => ({ text: `${name} could not resume`, evidence: [connection.since, entry] })),
    ),
  );
}

const sameOrder: Rule = {
  id: "same-order",
  says: "a topic's events come in the order of `seq` on every connection, and are the same events for all [LOG3] [ENV2]",
  look: (facts) => [...facts.devices.flatMap(orderOn), ...differences(facts), ...positionsOutOfOrder(facts)],
};

function orderOn(device: DeviceFacts): Finding[] {
  const findings: Finding[] = [];
  const highest = new Map<string, LoggedMessage>();
  for (const connection of device.connections) {
    const last = new Map<string, LoggedMessage>();
    for (const { event } of connection.events) {
      const before = last.get(event.topic);
      if (before !== undefined && (event.seq <= before.seq || event.position <= before.position)) {
        findings.push({ text: `${device.name} got ${event.topic} out of order`, evidence: [before, event] });
      }
      last.set(event.topic, event);
      const most = highest.get(event.topic);
      if (most === undefined || event.seq > most.seq) highest.set(event.topic, event);
      else if (!wasAskedFor(device, connection, event))
        findings.push({ text: `${device.name} was taken back on ${event.topic}`, evidence: [most, event] });
    }
  }
  return findings;
}

function differences({ devices, known, acked }: Facts): Finding[] {
  const findings: Finding[] = [];
  const places = new Map<string, LoggedMessage>();
  const compare = (name: string, event: LoggedMessage) => {
    const first = known.get(event.topic)!.get(event.seq)!;
    if (fingerprint(first) !== fingerprint(event))
      findings.push({ text: `${name} saw another ${event.topic} ${event.seq} than others`, evidence: [first, event] });
    const place = places.get(event.id) ?? event;
    places.set(event.id, place);
    if (place.topic !== event.topic || place.seq !== event.seq)
      findings.push({ text: `${name} saw ${event.id} in another place than others`, evidence: [place, event] });
  };
  for (const { name, connections } of devices) {
    for (const { events, exchanges } of connections) {
      for (const { event } of events) compare(name, event);
      for (const { event } of pagesOf(exchanges)) compare(name, event);
    }
  }
  for (const { device, topic, seq, id, position } of acked) {
    const event = known.get(topic)?.get(seq);
    if (event !== undefined && ((id !== null && event.id !== id) || event.position !== position))
      findings.push({ text: `${device.name} was told another place`, evidence: [{ topic, seq, id, position }, event] });
  }
  return findings;
}

/** Of a message what never changes. */
function fingerprint({ id, type, position, timestamp, payload }: LoggedMessage): string {
  const { content, edited_at, deleted_at, reactions, ...constant } = payload;
  return JSON.stringify([id, type, position, timestamp, type === "message.new" ? constant : payload]);
}

function positionsOutOfOrder({ known }: Facts): Finding[] {
  const findings: Finding[] = [];
  const byPosition = new Map<number, LoggedMessage>();
  for (const events of known.values()) {
    let before: LoggedMessage | null = null;
    for (const event of [...events.values()].sort((one, other) => one.seq - other.seq)) {
      if (before !== null && event.position <= before.position)
        findings.push({ text: `positions of ${event.topic} do not grow`, evidence: [before, event] });
      const other = byPosition.get(event.position);
      if (other !== undefined) findings.push({ text: "two events have one position", evidence: [other, event] });
      byPosition.set(event.position, event);
      before = event;
    }
  }
  return findings;
}

const noDuplicate: Rule = {
  id: "no-duplicate",
  says: "an event comes once on a device, also across resumes, but for an overlap it has asked for [LOG3] [LOG4]",
  look: ({ devices }) =>
    devices.flatMap((device) => {
      const ids = new Set<string>();
      return device.connections.flatMap((connection) => {
        const here = new Set<string>();
        return connection.events.flatMap(({ event }) => {
          const again = here.has(event.id) || (ids.has(event.id) && !wasAskedFor(device, connection, event));
          here.add(event.id);
          ids.add(event.id);
          return again ? [{ text: `${device.name} got ${event.topic} ${event.seq} again`, evidence: [event] }] : [];
        });
      });
    }),
};

const nothingInvented: Rule = {
  id: "nothing-invented",
  says: "every message is one that a client has sent, as it was sent [MSG1]",
  look({ devices, known }) {
    const sent = new Map<string, string>();
    for (const { device } of devices) {
      for (const { key, conversationId, content } of saidOn(device))
        sent.set(`${device.userId} ${key}`, `${conversationId} ${content}`);
    }
    return [...known.values()]
      .flatMap((events) => [...events.values()])
      .filter(({ type, payload }) => {
        const said = sent.get(`${payload.sender_id} ${keyIn({ payload })}`);
        // Changes are judged by themselves.
        const isChanged = payload.edited_at !== undefined || payload.deleted_at !== undefined;
        const seen = `${payload.conversation_id} ${payload.content}`;
        return type === "message.new" && (isChanged ? said === undefined : said !== seen);
      })
      .map((event) => ({ text: `nobody has sent ${event.topic} ${event.seq} like that`, evidence: [event] }));
  },
};

const retryOnce: Rule = {
  id: "retry-once",
  says: "whatever is sent with one client_message_id is there once, and is answered as the first time [LOG2]",
  look({ acked, known }) {
    const findings: Finding[] = [];
    const places = new Map<string, { place: string; what: object }>();
    const firsts = new Set<string>();
    const compare = (key: string, place: string, what: object) => {
      const known = places.get(key) ?? { place, what };
      places.set(key, known);
      if (known.place !== place) findings.push({ text: `${key} is there twice`, evidence: [known.what, what] });
    };
    for (const { device, clientMessageId, topic, seq, position, id, duplicate } of acked) {
      const key = `${device.device.userId} ${clientMessageId}`;
      compare(key, `${topic} ${seq} ${position}`, { topic, seq, position, id });
      if (!duplicate && firsts.has(key))
        findings.push({ text: `${key} was taken for new twice`, evidence: [{ topic, seq, position, id }] });
      if (!duplicate) firsts.add(key);
    }
    for (const events of known.values()) {
      for (const event of events.values()) {
        if (!event.topic.startsWith("conversation:") || compactionKey(event) !== null) continue;
        const { sender_id, user_id } = event.payload;
        compare(`${sender_id ?? user_id} ${keyIn(event)}`, `${event.topic} ${event.seq} ${event.position}`, event);
      }
    }
    return findings;
  },
};

export const logRules: Rule[] = [ackedDelivered, noHoles, sameOrder, noDuplicate, nothingInvented, retryOnce];
