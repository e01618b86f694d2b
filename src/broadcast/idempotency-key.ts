/** Writes the keys under which events are appended once, and the digest of what was said under them [LOG2]. */

/**
 * No two of them come out the same.
 * @param scope whose key it is, such as the kind of key and the user; identifiers, which hold no space but may hold colons
 * @param key what it is called there
 */
export function idempotencyKey(scope: string[], key: string | number): string {
  // A colon within a part would make the parts of others: `a:b` and `c`, `a` and `b:c`.
  let text = "";
  for (const part of scope) text += `${part.replaceAll(":", " ")}:`;
  return text + key;
}

/** Begins anew with each digest. */
const sha256 = new Bun.CryptoHasher("sha256");

/** The same for the same JSON value, in whatever order its names came; 22 characters. */
export function contentDigest(content: unknown): string {
  const text = JSON.stringify(inOrder(content));
  return sha256.update(text).digest("base64url").slice(0, 22);
}

/** The value with the names of its objects in one order; what is in order already is not copied. */
function inOrder(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    const items = value.map(inOrder);
    return items.some((item, index) => item !== value[index]) ? items : value;
  }
  const given = value as Record<string, unknown>;
  const names = Object.keys(given);
  const sorted = names.toSorted();
  // Without a prototype, so that `__proto__` is a name like any other.
  const ordered: Record<string, unknown> = Object.create(null);
  let isSame = true;
  for (const [index, name] of sorted.entries()) {
    ordered[name] = inOrder(given[name]);
    isSame &&= name === names[index] && ordered[name] === given[name];
  }
  return isSame ? given : ordered;
}
