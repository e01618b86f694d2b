/** Looks at JSON text without parsing it: how deep and how large it is, and what stands at its two ends. */

/** Limits of a text. */
export interface ShapeLimits {
  /** Arrays and objects within each other. */
  depth: number;
  /** Values of any kind: a small one costs a parser as much as a long text. */
  values: number;
}

const [space, quote, comma, backslash] = [32, 34, 44, 92];
const [openBracket, closeBracket, openBrace, closeBrace] = [91, 93, 123, 125];

/** Which limit the text is beyond, if it is JSON; null where it is within both. */
export function beyondShape(
  text: string,
  { depth: depthMax, values: valuesMax }: ShapeLimits,
): "depth" | "values" | null {
  // A short text can be neither; this is the case for nearly every message.
  if (text.length <= depthMax) return null;
  let depth = 0;
  let values = 1;
  // Whether the last bracket has nothing in it yet: what it opens counts once its first value, or none, is seen.
  let isEmpty = false;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code <= space) continue;
    if (code === closeBrace || code === closeBracket) {
      depth--;
      isEmpty = false;
      continue;
    }
    if (isEmpty) values++;
    isEmpty = false;
    if (code === quote) {
      index = endOfString(text, index);
      if (index < 0) return null;
    } else if (code === comma) values++;
    else if (code === openBrace || code === openBracket) {
      if (++depth > depthMax) return "depth";
      isEmpty = true;
    }
    if (values > valuesMax) return "values";
  }
  return null;
}

/** Characters that are looked at one by one before a search, which takes as long as some of them to start. */
const stepLength = 64;

/** Where the string that starts at `start` ends; -1 where it does not. */
function endOfString(text: string, start: number): number {
  let index = start + 1;
  for (;;) {
    for (const end = Math.min(index + stepLength, text.length); index < end; index++) {
      const code = text.charCodeAt(index);
      if (code === quote) return index;
      if (code === backslash) index++;
    }
    if (index >= text.length) return -1;
    index = text.indexOf('"', index);
    if (index < 0 || !isEscaped(text, index)) return index;
    index++;
  }
}

function isEscaped(text: string, index: number): boolean {
  let first = index;
  while (text.charCodeAt(first - 1) === backslash) first--;
  return (index - first) % 2 === 1;
}

const edgeLength = 1024;
/** A name with a text or another plain value after it, and what comes then. */
const plainField = /\s*"((?:[^"\\]|\\.)*)"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|[\w.+-]+)\s*([,}])/y;

/**
 * The texts among an object's own fields that stand before its first nested value, or after its last, within a kilobyte of
 * either end. Of a text that is not JSON it may be anything.
 */
export function textsAtEdges(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [name, value] of textsAtStart(text.slice(0, edgeLength))) found.set(name, value);
  // Of two fields of one name a parser takes the last.
  for (const [name, value] of textsAtEnd(text.slice(-edgeLength)).reverse()) found.set(name, value);
  return found;
}

function textsAtStart(head: string): [name: string, value: string][] {
  const found: [string, string][] = [];
  const start = /^\s*\{/.exec(head);
  plainField.lastIndex = start?.[0].length ?? head.length;
  for (let field = plainField.exec(head); field !== null; field = plainField.exec(head)) {
    note(found, field[1]!, field[2]);
    if (field[3] === "}") break;
  }
  return found;
}

/** From the last one back to the first. */
function textsAtEnd(tail: string): [name: string, value: string][] {
  const found: [string, string][] = [];
  let rest = tail.trimEnd();
  if (!rest.endsWith("}")) return found;
  do {
    rest = rest.slice(0, -1).trimEnd();
    const value = lastString(rest);
    rest = value === null ? beforePlainValue(rest) : value.before;
    rest = rest.trimEnd();
    if (!rest.endsWith(":")) break;
    const name = lastString(rest.slice(0, -1).trimEnd());
    if (name === null) break;
    note(found, name.text, value?.text);
    rest = name.before.trimEnd();
  } while (rest.endsWith(","));
  return found;
}

/** Matches what stands before the number, or the word, that a text ends with. */
function beforePlainValue(text: string): string {
  let end = text.length;
  while (/[\w.+-]/.test(text.charAt(end - 1))) end--;
  return text.slice(0, end);
}

/** The string literal that a text ends with, without its quotes, and what stands before it. */
function lastString(text: string): { text: string; before: string } | null {
  if (!text.endsWith('"')) return null;
  const end = text.length - 1;
  let start = end;
  do {
    if (start === 0) return null;
    start = text.lastIndexOf('"', start - 1);
    if (start < 0) return null;
  } while (isEscaped(text, start));
  return { text: text.slice(start + 1, end), before: text.slice(0, start) };
}

function note(found: [string, string][], name: string, value: string | undefined): void {
  if (value === undefined) return;
  try {
    found.push([JSON.parse(`"${name}"`), JSON.parse(`"${value}"`)]);
  } catch {
    // No string literal of JSON's: the parser will say so.
  }
}
