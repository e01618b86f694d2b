/** Judges a history: every rule looks at it; pure, so that a broken history by hand proves that a rule can fail. */
import { factsOf } from "./facts.ts";
import type { History } from "./history.ts";
import { beforeLoss, sinceTold } from "./losses.ts";
import { messagesOf } from "./messages.ts";
import type { Finding, Rule } from "./rule.ts";
import { callRules } from "./rules-calls.ts";
import { eventRules } from "./rules-events.ts";
import { listRules } from "./rules-lists.ts";
import { logRules } from "./rules-log.ts";
import { messageRules } from "./rules-messages.ts";
import { missedIn, missedRules, owedIn } from "./rules-missed.ts";
import { placeRules } from "./rules-places.ts";
import { presentRules } from "./rules-present.ts";
import { requestRules } from "./rules-requests.ts";
import { toldRules } from "./rules-told.ts";

/** They speak of what the log holds. */
const rulesOfLog: Rule[] = [...logRules, ...messageRules, ...placeRules, ...listRules, ...missedRules];
const rulesOfRest: Rule[] = [...requestRules, ...callRules, ...presentRules, ...eventRules, ...toldRules];
export const rules: Rule[] = [...rulesOfLog, ...rulesOfRest];

export interface Violation extends Finding {
  rule: string;
}

/**
 * Rules about rest are asked only where the history has come to it. Where the log went back its rules are asked of how it was
 * before, and of what each device was told afterwards [LOG4].
 */
export function judge(history: History): Violation[] {
  if (history.logLosses.length === 0) return brokenIn(history, rules);
  return [
    ...brokenIn(beforeLoss(history), rulesOfLog),
    ...brokenIn(sinceTold(history), rulesOfLog),
    ...brokenIn(history, rulesOfRest),
  ];
}

function brokenIn(history: History, asked: Rule[]): Violation[] {
  const facts = factsOf(history);
  return asked
    .filter(({ atRest }) => !atRest || history.rest !== null)
    .flatMap(({ id, look }) => look(facts).map((finding) => ({ rule: id, ...finding })));
}

const shownPerRule = 5;

/** For people: the seed, and of each broken rule some findings with what shows them. */
export function report({ seed, violations, history }: { seed: number; violations: Violation[]; history: History }) {
  const lines = [`seed ${seed}: ${summary(history)}`];
  for (const { id, says } of rules) {
    const found = violations.filter(({ rule }) => rule === id);
    if (found.length === 0) continue;
    lines.push(`✗ ${id}: ${says} (${found.length})`);
    for (const { text, evidence } of found.slice(0, shownPerRule)) {
      lines.push(`  ${text}`, ...evidence.map((part) => `    ${JSON.stringify(part)}`.slice(0, 600)));
    }
  }
  if (violations.length === 0) lines.push(`✓ ${rules.length} rules hold`);
  return lines.join("\n");
}

function summary(history: History): string {
  const facts = factsOf(history);
  const { devices, acked } = facts;
  const connections = devices.flatMap((device) => device.connections);
  const events = connections.reduce((sum, { events }) => sum + events.length, 0);
  const changes = [...messagesOf(facts).byId.values()].flatMap(({ edits, deletions, reactions }) =>
    [...edits, ...deletions, ...[...reactions.values()].flat()].filter(({ knownAt }) => Number.isFinite(knownAt)),
  );
  return [
    `${devices.length} devices, ${connections.length} connections, ${acked.length} acknowledged, ${events} events`,
    `${changes.length} edits, deletions and reactions`,
    `${missedIn(facts).length} told to have been missed, ${owedIn(facts).length} times by somebody who was away for certain`,
  ].join(", ");
}
