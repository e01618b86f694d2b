/** Answers events that are not appended: their keys are known [LOG2], they change nothing of their message [MSG2], or others tell of their receipt [REC2]. */
import type { AmendmentOutcome } from "./amendments.ts";
import type { AppendedEvent, NewEvent, Once } from "./ports.ts";

/** The event that a key was given to, and the digest of what was said; null where that was not kept. */
export type First = Omit<AppendedEvent, "duplicate" | "conflict"> & { digest: string | null };

/** @param firsts those of the keys that are known, one at least */
export function repetitionOf(firsts: First[], { digest }: Pick<Once, "digest">): AppendedEvent {
  const [{ digest: _, ...first }] = firsts as [First];
  const isOther = (said: string | null) => digest !== undefined && said !== null && said !== digest;
  const isConflict = firsts.some((it) => it.position !== first.position || isOther(it.digest));
  return { ...first, duplicate: true, ...(isConflict ? { conflict: true } : {}) };
}

/** Answers an event whose amendment was not made, or whose receipt is not its own to tell. */
export function notAmended(
  { topic, id, createdAt }: NewEvent,
  outcome: Exclude<AmendmentOutcome, "applied">,
): AppendedEvent {
  const refusal = outcome === "unchanged" ? {} : { refusal: outcome };
  return { topic, seq: 0, position: 0, id, createdAt, duplicate: true, ...refusal };
}
