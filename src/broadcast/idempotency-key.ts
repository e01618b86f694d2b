/** Writes the keys under which events are appended once, so that no two of them come out the same [LOG2]. */

/**
 * @param scope whose key it is, such as the kind of event and the user; identifiers, which hold no space but may hold colons
 * @param key what it is called there
 */
export function idempotencyKey(scope: string[], key: string | number): string {
  // A colon within a part would make the parts of others: `a:b` and `c`, `a` and `b:c`.
  return [...scope.map((part) => part.replaceAll(":", " ")), key].join(":");
}
