/** Defines what a rule is: it looks at a history and says where it was broken. */
import type { Facts } from "./facts.ts";

export interface Finding {
  /** Says what is wrong, with whose it is. */
  text: string;
  /** The part of the history that shows it. */
  evidence: unknown[];
}

export interface Rule {
  id: string;
  /** States what must hold. */
  says: string;
  /** Broken only once all has come to rest: what is missing before may still come. */
  atRest?: boolean;
  look(facts: Facts): Finding[];
}
