/** Proves that the checker's rules can fail: each broken history by hand breaks the rules that it names, and no other. */
import { expect, test } from "bun:test";
import type { History } from "./checker/history.ts";
import { judge } from "./checker/judge.ts";

/** A broken history, and the rules that it breaks. */
export interface BrokenHistory {
  rule: string;
  what: string;
  history: () => History;
  /** Rules that cannot but be broken with it. */
  also?: string[];
}

export function proveBroken(cases: BrokenHistory[]): void {
  for (const { rule, what, history, also = [] } of cases)
    test(`${what}: ${rule}`, () => expect(brokenIn(history())).toEqual([rule, ...also].sort()));
}

const brokenIn = (history: History) => [...new Set(judge(history).map(({ rule }) => rule))].sort();
