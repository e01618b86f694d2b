/** Reads YAML and says where it breaks, or has a key twice; quotes nothing of the text, which may hold secrets. */

/** Fault of a text, and where it is seen, from 1. */
export interface YamlFault {
  line: number;
  /** A few words: `duplicate key`. */
  reason: string;
}

/** @returns the value, with merge keys merged and aliases followed, or all faults */
export async function parseYaml(text: string): Promise<{ value: unknown } | { faults: YamlFault[] }> {
  // Not everybody has a file, and a start should be quick.
  const { LineCounter, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const faults = [...document.errors, ...document.warnings].map(({ code, pos }) => ({
    line: lines.linePos(pos[0]).line,
    reason: code.toLowerCase().replaceAll("_", " "),
  }));
  if (faults.length > 0) return { faults };
  try {
    return { value: document.toJS() };
  } catch {
    return { faults: [{ line: 1, reason: "an alias without an anchor, or too many of them" }] };
  }
}
