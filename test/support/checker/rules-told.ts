/** Rules of the client: what it tells its application of the log is each event of others once, in order, and nothing is left out [LOG3] [SUB6]. */
import { type DeviceFacts, type Facts, keyIn } from "./facts.ts";
import type { Finding, Rule } from "./rule.ts";

const toldOnce: Rule = {
  id: "told-once",
  says: "a client tells each event of a topic once and in order, and its own not at all, but for what it tells anew after a gap [LOG3] [SUB6]",
  look: ({ devices }) =>
    devices.flatMap(({ name, device }) => {
      const last = new Map<string, number>();
      const own = new Map<string, Set<number>>();
      return (device.told ?? []).flatMap(({ kind, topic, seq }): Finding[] => {
        if (kind === "passed") return [];
        if (kind === "anew") {
          for (const known of [last, own])
            if (topic === null) known.clear();
            else known.delete(topic);
          return [];
        }
        if (kind === "own") {
          own.set(topic, (own.get(topic) ?? new Set()).add(seq));
          return [];
        }
        const before = last.get(topic) ?? 0;
        last.set(topic, Math.max(before, seq));
        if (seq <= before) return [{ text: `${name} was told ${topic} ${seq} after ${before}`, evidence: [] }];
        return own.get(topic)?.has(seq) === true
          ? [{ text: `${name} was told ${topic} ${seq}, which is its own`, evidence: [] }]
          : [];
      });
    }),
};

const toldAll: Rule = {
  id: "told-all",
  says: "at rest a client has told every message and every own event that it was sent, but its own [LOG3] [LOG4]",
  atRest: true,
  look: (facts) => (facts.history.logLosses.length > 0 ? [] : facts.devices.flatMap((device) => untold(facts, device))),
};

function untold({ known }: Facts, { device, name, present, received, sent }: DeviceFacts): Finding[] {
  if (present === null || device.told === undefined) return [];
  const told = new Map<string, Set<number>>();
  const first = new Map<string, number>();
  const passed = new Map<string, { after: number; position: number }[]>();
  for (const it of device.told) {
    const { kind, topic, seq } = it;
    if (kind === "passed") {
      // Of what was told so far nothing may be missing, nor of what is behind what can have been acknowledged.
      for (const [known, seqs] of told)
        passed.set(known, [...(passed.get(known) ?? []), { after: Math.max(...seqs), position: it.position }]);
      continue;
    }
    if (kind === "anew") {
      // Nothing of before is owed any more; where it goes on from is seen by what it tells next.
      for (const known of [told, first, passed])
        if (topic === null) known.clear();
        else known.delete(topic);
      continue;
    }
    if (!first.has(topic)) first.set(topic, seq);
    told.set(topic, (told.get(topic) ?? new Set()).add(seq));
  }
  return [...received].flatMap(([topic, events]) =>
    [...events.keys()].flatMap((seq): Finding[] => {
      const event = known.get(topic)?.get(seq);
      // Of others only the newest is kept, and told where it came in time.
      if (!topic.startsWith("conversation:") || event === undefined || !isKeptForGood(event.type)) return [];
      const isPassed = passed.get(topic)?.some((it) => seq > it.after && event.position <= it.position) === true;
      const isOwed = seq >= (first.get(topic) ?? Number.POSITIVE_INFINITY) && !sent.has(keyIn(event));
      return isOwed && !isPassed && told.get(topic)?.has(seq) !== true
        ? [{ text: `${name} was sent ${topic} ${seq}, and did not tell it`, evidence: [event] }]
        : [];
    }),
  );
}

const isKeptForGood = (type: string) =>
  !/^message\.(read|delivered|edited|deleted|reaction)$/.test(type) && !type.startsWith("member");

export const toldRules: Rule[] = [toldOnce, toldAll];
