/** Says of YAML what its parser does not: where it breaks, and which keys a mapping has twice, the last of which would win. */

export interface Repeated {
  path: readonly string[];
  /** From 1, in order. */
  lines: number[];
}

// Of the characters that nobody has agreed on what they mean: YAML takes them as a part of any text.
const opening = "\uE000";
const closing = "\uE001";
const marks = /\uE000(\d+)\uE001/g;
/** Behind what may be a key's last character: its end, its closing quote, its colon. */
const keyEnd = /(?<=[^\s"'{},])(?=["']?[ \t]*:)/g;

/** All of them in a text that is YAML; a key that is neither simple nor quoted text is not judged. */
export function repeatedKeys(text: string): Repeated[] {
  if (text.includes(opening) || text.includes(closing)) return [];
  const lineOf = (offset: number) => text.slice(0, offset).split("\n").length;
  // With the place where it stands in its name every key is another one, and the parser itself says which are siblings.
  const marked = text.replace(keyEnd, (_, offset: number) => `${opening}${offset}${closing}`);
  const repeated: Repeated[] = [];
  function visit(value: unknown, path: string[]): void {
    if (typeof value !== "object" || value === null) return;
    const offsets = new Map<string, number[]>();
    for (const [name, child] of Object.entries(value)) {
      const key = name.replace(marks, "");
      offsets.set(key, [...(offsets.get(key) ?? []), Number([...name.matchAll(marks)].at(-1)?.[1])]);
      visit(child, [...path, key]);
    }
    for (const [key, all] of offsets) {
      if (all.length > 1) repeated.push({ path: [...path, key], lines: [...new Set(all.map(lineOf))] });
    }
  }
  try {
    visit(Bun.YAML.parse(marked), []);
  } catch {
    // An alias or a tag with a mark in its name means nothing: such a file is not judged.
    return [];
  }
  return repeated;
}

/** Texts of more lines are not searched: each line may cost a parse of all before it. */
const searchedLinesMax = 2_000;

/**
 * The first line that can be at fault in a text that is not YAML, from 1: all before it would be YAML by themselves.
 * Null where the text is too long to search.
 */
export function faultyFrom(text: string): number | null {
  const lines = text.split("\n");
  if (lines.length > searchedLinesMax) return null;
  // From the end: within brackets the lines before may be none by themselves and yet be sound.
  for (let count = lines.length - 1; count > 0; count--) {
    try {
      Bun.YAML.parse(lines.slice(0, count).join("\n"));
      return count + 1;
    } catch {}
  }
  return 1;
}
