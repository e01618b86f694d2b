/** Makes ids that nobody else makes. */

/** 32 characters. A page that is not served by https has no `crypto.randomUUID`. */
export const newId = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Sorts by a number, as text, and is nobody else's all the same. */
export const orderedId = (n: number): string => `${String(n).padStart(15, "0")} ${newId()}`;
