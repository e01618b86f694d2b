/** Reads values from text, shows them to people, and writes them back. */
import type { Key } from "./keys.ts";
import { durationUnits, sizeUnits } from "./values.ts";

/** A value as an environment variable or `${NAME}` gives it; what does not fit stays text, for the schema to refuse. */
export function fromText(key: Key, text: string): unknown {
  if (key.nullable && (text === "" || text === "null")) return null;
  switch (key.kind) {
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "whole":
    case "ratio":
      return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    case "list":
      return text
        .split(",")
        .map((item) => item.trim())
        .filter((item) => item !== "");
    case "map":
      return mapFromText(text) ?? text;
    default:
      return text;
  }
}

/** `a=b,c=d`; null where it is not of that form. */
function mapFromText(text: string): Record<string, string> | null {
  const items = text.split(",").filter((item) => item.trim() !== "");
  const pairs = items.map((item) => item.split("=").map((part) => part.trim()));
  if (pairs.some((pair) => pair.length !== 2)) return null;
  const map = Object.fromEntries(pairs) as Record<string, string>;
  // The same name twice is a slip of which only the last would be seen.
  return Object.keys(map).length === pairs.length ? map : null;
}

const mask = "********";

const plainParameters = /^(tls|sslmode|application_name|target_session_attrs)$/;

/** A URL without its password, and without what its query may hide. */
export function maskUrl(url: string): string {
  // Up to the last `@`: a password that holds `@` or `/` unescaped is a fault elsewhere, but must not be shown here either.
  const named = url.replace(/^([a-z][a-z0-9+.-]*:\/\/[^:@/]*):.*@/is, `$1:${mask}@`);
  if (named === url && /@/.test(url) && !/^[a-z][a-z0-9+.-]*:\/\/[^:@/]*@/i.test(url)) return mask;
  // A name that stands alone is a password whose colon was forgotten, but for PostgreSQL, where users come without one.
  const bare = named.replace(/^((?!postgres(?:ql)?:)[a-z][a-z0-9+.-]*:\/\/)[^:@/]+@/i, `$1${mask}@`);
  // A slip in the name of a secret would show it, so only what is known to be none is shown.
  return bare.replace(/([?&]([^=&]*)=)[^&]*/g, (all, start: string, name: string) =>
    plainParameters.test(name) ? all : `${start}${mask}`,
  );
}

/** A value without its secret; other values as they are. */
export function masked(key: Key, value: unknown): unknown {
  if (value === null || value === undefined || key.secret === "no") return value;
  if (key.secret === "whole" || typeof value === "object") return mask;
  return typeof value === "string" ? maskUrl(value) : value;
}

const shownMax = 120;

/** A raw value for a message: one line, bounded, secrets masked; null where there is none. */
export function shown(key: Key, value: unknown): string | null {
  if (value === undefined) return null;
  const text = JSON.stringify(masked(key, value)) ?? String(value);
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
}

function inUnits(amount: number, units: Record<string, number>): string {
  const entries = Object.entries(units);
  const [unit, factor] = entries.find(([, each]) => amount > 0 && amount % each === 0) ?? entries.at(-1)!;
  return `${amount / factor}${unit}`;
}

/** A setting's value in the checked configuration (ms, bytes) as a file would hold it: `60000` → `1m`. */
export function written(key: Key, value: unknown): unknown {
  if (value === null || value === undefined) return null;
  switch (key.kind) {
    case "duration":
      return inUnits(value as number, durationUnits);
    case "size":
      return inUnits(value as number, sizeUnits);
    case "address": {
      const { host, port } = value as { host: string; port: number };
      return `${host.includes(":") ? `[${host}]` : host}:${port}`;
    }
    default:
      return value;
  }
}
