/** The checker's rules of what clients tell can fail: a broken history by hand for each, and sound ones that look suspicious [LOG3] [SUB6]. */
import { describe, expect, test } from "bun:test";
import { type BrokenHistory, proveBroken } from "../support/broken-history.ts";
import type { History, Told } from "../support/checker/history.ts";
import { judge } from "../support/checker/judge.ts";
import { toldRules } from "../support/checker/rules-told.ts";
import { historyOf, message, conversation as topic } from "../support/histories.ts";

const log = [message(1), message(2), message(3)];
const event = (seq: number): Told => ({ kind: "event", topic, seq });
const own = (seq: number): Told => ({ kind: "own", topic, seq });
const anew = (of: string | null): Told => ({ kind: "anew", topic: of });
/** Up to the event of that number, it may be. */
const passed = (seq: number): Told => ({ kind: "passed", topic: null, position: message(seq).position });

/** Anna's phone sends three messages, and her other device and Ben's are sent them; each client tells what is named. */
function told(by: { phone?: Told[]; ben?: Told[] }): History {
  const history = historyOf(
    ({ phone, laptop, ben }) => {
      for (const sent of log) {
        phone.send(sent);
        laptop.see(sent);
        ben.see(sent);
      }
    },
    { log },
  );
  const [phone, , ben] = history.devices;
  phone!.told = by.phone;
  ben!.told = by.ben;
  return history;
}

describe("sound histories", () => {
  const sound: Record<string, () => History> = {
    "each is told what others say, in order": () =>
      told({ phone: log.map(({ seq }) => own(seq)), ben: [1, 2, 3].map(event) }),
    "after a gap it begins anew": () => told({ ben: [event(1), event(2), anew(topic), event(2), event(3)] }),
    "what may have been acknowledged between two lines is not told again": () =>
      told({ ben: [event(1), event(2), event(3), anew(null), event(1), passed(2), event(3)] }),
    "a program that keeps nothing is told all of it again": () =>
      told({ phone: [own(1), anew(null), event(1), event(2), event(3)], ben: [1, 2, 3].map(event) }),
  };
  for (const [what, history] of Object.entries(sound))
    test(`[LOG3] ${what}`, () => expect(judge(history())).toEqual([]));
});

const cases: BrokenHistory[] = [
  {
    rule: "told-once",
    what: "[LOG3] one is told twice",
    history: () => told({ ben: [1, 2, 2, 3].map(event) }),
  },
  {
    rule: "told-once",
    what: "[LOG3] one is told out of order",
    history: () => told({ ben: [1, 3, 2].map(event) }),
  },
  {
    rule: "told-once",
    what: "[SUB6] what was sent itself is told as well",
    history: () => told({ phone: [own(1), event(1)] }),
  },
  {
    rule: "told-all",
    what: "[LOG3] one is left out",
    history: () => told({ ben: [event(1), event(3)] }),
  },
  {
    rule: "told-all",
    what: "[LOG3] one is left out that cannot have been acknowledged",
    history: () => told({ ben: [event(1), anew(null), event(1), passed(1), event(3)] }),
  },
  {
    rule: "told-all",
    what: "[LOG3] one is left out before the line broke",
    history: () => told({ ben: [anew(null), event(1), event(3), passed(3)] }),
  },
  {
    rule: "told-all",
    what: "[LOG3] one is left out, and an earlier time it may have been acknowledged",
    history: () => told({ ben: [anew(null), event(1), passed(2), anew(null), event(1), event(3)] }),
  },
  {
    rule: "told-once",
    what: "[LOG3] one is told again after what may have been acknowledged",
    history: () => told({ ben: [event(1), event(2), passed(2), event(2), event(3)] }),
  },
];

describe("broken histories", () => {
  proveBroken(cases);

  test("[LOG3] there is one for every rule", () => {
    expect([...new Set(cases.map(({ rule }) => rule))].sort()).toEqual(toldRules.map(({ id }) => id).sort());
  });
});
