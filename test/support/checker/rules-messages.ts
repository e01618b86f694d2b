/** Rules of edits, deletions and reactions: the log tells the truth, and everybody ends with the same conversation [MSG2] [MSG3]. */

import { Fold } from "../../../src/client/conversations/fold.ts";
import type { LoggedEvent, Message } from "../../../src/client/conversations/message.ts";
import type { OutboxEntry } from "../../../src/client/core.ts";
import type { DeviceFacts, Facts } from "./facts.ts";
import type { LoggedMessage } from "./history.ts";
import { type Change, changeTypes, type MessageFacts, messagesOf, reactionKey } from "./messages.ts";
import { flawOf, shownReactions } from "./row-flaws.ts";
import type { Finding, Rule } from "./rule.ts";

const wasDeletedBefore = (message: MessageFacts | undefined, order: number) =>
  message?.deletions.some(({ knownAt }) => knownAt < order) ?? false;

const hasText = ({ type, payload }: LoggedMessage) =>
  (type === "message.new" || type === "message.edited") && payload.content !== null;

const deletedGone: Rule = {
  id: "deleted-gone",
  says: "the text of a deleted message is in no answer that was asked for later: history, replay or last_message [MSG2]",
  look(facts) {
    const { byId, sights } = messagesOf(facts);
    return [...sights].flatMap(([{ name }, seen]) =>
      seen
        .filter(({ event, from }) => hasText(event) && wasDeletedBefore(byId.get(event.payload.message_id), from))
        .map((sight) => ({
          text: `${name} was shown deleted text in ${sight.in}`,
          evidence: [sight, byId.get(sight.event.payload.message_id)!.deletions],
        })),
    );
  },
};

const asItWas: Rule = {
  id: "as-it-was",
  says: "a message in an answer is as it was in some moment between the asking and the answer [MSG2] [MSG3]",
  look(facts) {
    const { byId, sights } = messagesOf(facts);
    return [...sights].flatMap(([{ name }, seen]) =>
      seen.flatMap((sight) => {
        const message = byId.get(sight.event.payload.message_id);
        if (sight.event.type !== "message.new" || message === undefined) return [];
        if (wasDeletedBefore(message, sight.from) && hasText(sight.event)) return [];
        const flaw = flawOf(message, sight);
        if (flaw === null) return [];
        const { edits, deletions, reactions } = message;
        const evidence = [sight, { edits: last(edits), deletions, reactions: [...reactions.values()].map(last) }];
        return [{ text: `${name} saw ${message.messageId} in ${sight.in}: ${flaw}`, evidence }];
      }),
    );
  },
};

const last = (changes: Change[]) => changes.slice(-4);

const changesAsked: Rule = {
  id: "changes-asked",
  says: "every edit, deletion and reaction is one that a client has asked for [MSG2] [MSG3]",
  look: (facts) =>
    messagesOf(facts).invented.map((event) => ({
      text: `nobody has asked for ${event.topic} ${event.seq}`,
      evidence: [event],
    })),
};

/** Changes of each message that the log holds at rest, and its row. */
interface Kept {
  row: LoggedMessage | undefined;
  edits: LoggedMessage[];
  deletions: LoggedMessage[];
  reactions: Map<string, LoggedMessage[]>;
}

function keptIn(log: Map<number, LoggedMessage>): Map<string, Kept> {
  const kept = new Map<string, Kept>();
  for (const event of log.values()) {
    const { type, payload } = event;
    if (type !== "message.new" && !changeTypes.has(type)) continue;
    const of: Kept = kept.get(payload.message_id) ?? { row: undefined, edits: [], deletions: [], reactions: new Map() };
    kept.set(payload.message_id, of);
    if (type === "message.new") of.row = event;
    else if (type === "message.edited") of.edits.push(event);
    else if (type === "message.deleted") of.deletions.push(event);
    else {
      const key = reactionKey(payload.user_id, payload.reaction);
      of.reactions.set(key, [...(of.reactions.get(key) ?? []), event]);
    }
  }
  return kept;
}

const newestOnly: Rule = {
  id: "newest-only",
  says: "at rest the log has of each message its newest edit or its deletion, and the newest of each reaction [MSG2] [MSG3]",
  atRest: true,
  look: ({ logs }) =>
    [...logs.values()].flatMap((log) =>
      [...keptIn(log)].flatMap(([messageId, { row, edits, deletions, reactions }]) => {
        const told = [...edits, ...deletions];
        const findings: Finding[] = [];
        const find = (text: string, evidence: unknown[]) =>
          findings.push({ text: `${messageId}: ${text}`, evidence: row === undefined ? evidence : [row, ...evidence] });
        if (told.length > 1) find("more than its newest edit or its deletion is kept", told);
        for (const events of reactions.values()) if (events.length > 1) find("a reaction is kept twice", events);
        if (row === undefined) return findings;
        const { content, edited_at, deleted_at } = row.payload;
        const event = told.at(-1);
        const isEdited = event?.type === "message.edited" && event.payload.edited_at === edited_at;
        const isDeleted = event?.type === "message.deleted" && event.payload.deleted_at === deleted_at;
        if (deleted_at !== undefined && !isDeleted) find("it is deleted, and its event says otherwise", told);
        if (deleted_at === undefined && deletions.length > 0) find("it was deleted and is there", told);
        if (edited_at !== undefined && !(isEdited && event.payload.content === content))
          find("it was edited, and its event says otherwise", told);
        if (deleted_at === undefined && edited_at === undefined && edits.length > 0)
          find("it does not show its edit", told);
        return findings;
      }),
    ),
};

const changesKept: Rule = {
  id: "changes-kept",
  says: "at rest every edit, deletion and reaction that anybody knows of is in the log, or a newer one is [MSG2] [MSG3]",
  atRest: true,
  look(facts) {
    const { byId } = messagesOf(facts);
    const findings: Finding[] = [];
    for (const [topic, log] of facts.logs) {
      const kept = keptIn(log);
      for (const message of [...byId.values()].filter((it) => it.topic === topic)) {
        const of = kept.get(message.messageId);
        if (of?.row === undefined) continue;
        const lost = (changes: Change[], events: LoggedMessage[]) => {
          const newest = Math.max(0, ...events.map(({ seq }) => seq));
          return changes.filter(({ seq, knownAt }) => Number.isFinite(knownAt) && (seq ?? 0) > newest);
        };
        const told = [...of.edits, ...of.deletions];
        const isDeleted = of.row.payload.content === null;
        const reactions = isDeleted ? [] : [...message.reactions];
        const shown = shownReactions(of.row.payload.reactions ?? []);
        const isShown = (key: string) => shown?.has(key) ?? false;
        const wrong = reactions.filter(
          ([key]) => isShown(key) !== (of.reactions.get(key)?.at(-1)?.payload.added ?? false),
        );
        for (const change of [
          // After a deletion an edit is not one.
          ...(isDeleted ? [] : lost(message.edits, told)),
          ...lost(message.deletions, of.deletions),
          ...reactions.flatMap(([key, changes]) => lost(changes, of.reactions.get(key) ?? [])),
        ])
          findings.push({ text: `a change of ${message.messageId} was lost`, evidence: [change, of.row, ...told] });
        for (const [key] of wrong)
          findings.push({ text: `${message.messageId} does not show ${key} as its event says`, evidence: [of.row] });
      }
    }
    return findings;
  },
};

const sameConversation: Rule = {
  id: "same-conversation",
  says: "at rest everybody has every message as history gives it, by what came alone [MSG2] [MSG3]",
  atRest: true,
  look: (facts) =>
    facts.devices.filter(({ present }) => present !== null).flatMap((device) => differing(facts, device)),
};

/** Folds the device's events and replies in the order in which they came. */
function foldedOn({ device, connections }: DeviceFacts): Map<string, Fold> {
  const folded = new Map<string, Fold>();
  const of = (topic: string) => {
    const held = folded.get(topic);
    if (held !== undefined) return held;
    const fold = new Fold(device);
    // Of its own a device may hear before it has the reply to it.
    fold.expect(1);
    folded.set(topic, fold);
    return fold;
  };
  for (const { events, exchanges } of connections) {
    const steps = [
      ...events.map(({ order, event }) => ({ order, run: () => of(event.topic).take(event as LoggedEvent) })),
      ...exchanges
        .filter(({ payload, replies }) => payload.conversation_id !== undefined && replies[0]?.message.type === "ack")
        .map(({ type, payload, replies: [reply] }) => ({
          order: reply!.order,
          run: () =>
            of(`conversation:${payload.conversation_id}`).takeOwn(
              { type, payload, createdAt: 0 } as OutboxEntry,
              reply!.message.payload as object,
            ),
        })),
    ];
    for (const { run } of steps.toSorted((one, other) => one.order - other.order)) run();
  }
  return folded;
}

/** Gives what two who have the same message must agree on. */
const looksLike = ({ content, reactions }: Message) =>
  JSON.stringify([
    content,
    reactions.flatMap(({ reaction, userIds }) => userIds.map((it) => reactionKey(it, reaction))).sort(),
  ]);

/** Messages that the device has changed, or tried to, without an answer. */
const unansweredOn = ({ connections }: DeviceFacts): Set<string> =>
  new Set(
    connections.flatMap(({ exchanges }) =>
      exchanges.flatMap(({ payload, replies }) => (replies.length === 0 ? [payload.message_id] : [])),
    ),
  );

function differing({ logs }: Facts, device: DeviceFacts): Finding[] {
  const findings: Finding[] = [];
  const folded = foldedOn(device);
  const unanswered = unansweredOn(device);
  for (const [topic, log] of logs) {
    const fold = folded.get(topic);
    // Of a message of its own from before it knows by the reply alone, and of what was done to it there nothing.
    const since = device.baselines.get(topic) ?? Number.POSITIVE_INFINITY;
    for (const { type, payload, seq } of log.values()) {
      const shown = type === "message.new" && seq > since ? fold?.get(payload.message_id) : null;
      if (!shown) continue;
      // Its answer was lost with a line, and the next one says only that it was so already: the message is to be read anew.
      if (unanswered.has(payload.message_id) && fold!.doubtful.includes(payload.message_id)) continue;
      const read = new Fold(device.device);
      read.take({ type, seq, payload });
      if (looksLike(shown) === looksLike(read.get(payload.message_id)!)) continue;
      const changes = [...log.values()].filter((it) => it.payload.message_id === payload.message_id);
      findings.push({
        text: `${device.name} has ${payload.message_id} otherwise than history`,
        evidence: [shown, ...changes],
      });
    }
  }
  return findings;
}

export const messageRules: Rule[] = [deletedGone, asItWas, changesAsked, newestOnly, changesKept, sameConversation];
