/** Answers events whose keys are known: as the first time, or that something else was said under them [LOG2]. */
import type { AppendedEvent, Once } from "./ports.ts";

/** The event that a key was given to, and the digest of what was said; null where that was not kept. */
export type First = Omit<AppendedEvent, "duplicate" | "conflict"> & { digest: string | null };

/** @param firsts those of the keys that are known, one at least */
export function repetitionOf(firsts: First[], { digest }: Pick<Once, "digest">): AppendedEvent {
  const [{ digest: _, ...first }] = firsts as [First];
  const isOther = (said: string | null) => digest !== undefined && said !== null && said !== digest;
  const isConflict = firsts.some((it) => it.position !== first.position || isOther(it.digest));
  return { ...first, duplicate: true, ...(isConflict ? { conflict: true } : {}) };
}
