/** Gathers what a file and the environment say, setting by setting, with where each value came from. */
import type { Fault } from "./faults.ts";
import { type Key, keys, keysByName, root, type Section } from "./keys.ts";
import { nearest, nearestHint } from "./nearest.ts";
import { fromText, shown } from "./text.ts";

export type Env = Record<string, string | undefined>;

export interface Setting {
  key: Key;
  value: unknown;
  origin: string;
  /** Fault of it as it stands; forgotten when something stronger sets the key. */
  fault?: Fault;
}

export interface GatheredSettings {
  settings: Map<string, Setting>;
  faults: Fault[];
}

/** Other programs' names for settings; weaker than `WS__…`, stronger than the file. */
const borrowedVariables = [
  ["DATABASE_URL", "storage.url"],
  ["REDIS_URL", "cluster.url"],
  ["PORT", "server.port"],
] as const;

/** Takes over what the tree of a file says. */
export function gatherFile(
  gathered: GatheredSettings,
  { tree, file, env }: { tree: unknown; file: string; env: Env },
): void {
  if (tree === null || tree === undefined) return;
  if (isMapping(tree)) gatherSection(gathered, root, { tree, file, env });
  else gathered.faults.push({ path: "the file", value: null, expected: "must be a mapping of sections", origin: file });
}

function gatherSection(
  gathered: GatheredSettings,
  section: Section,
  { tree, file, env }: { tree: Record<string, unknown>; file: string; env: Env },
): void {
  for (const [name, value] of Object.entries(tree)) {
    const child = section.children.get(name);
    if (child === undefined) {
      const path = [...section.path, name].join(".");
      // Its value is not shown: a secret under a misspelled name is still a secret.
      const expected = `is not a setting${nearestHint(nearestSetting(section, name))}`;
      gathered.faults.push({ path, value: null, expected, origin: file });
    } else if (child.kind !== "section") {
      gathered.settings.set(child.name, withVariables(child, { value, file, env }));
    } else if (value === null) {
      // A heading whose settings are all commented out.
    } else if (isMapping(value) && !(child.nullable && Object.keys(value).length === 0)) {
      gatherSection(gathered, child, { tree: value, file, env });
    } else {
      const expected = `must hold settings such as ${[...child.children.keys()].slice(0, 3).join(", ")}`;
      gathered.faults.push({ path: child.name, value: null, expected, origin: file });
    }
  }
}

/** The same name in another section is likelier than another name in this one. */
function nearestSetting(section: Section, name: string): string | null {
  const elsewhere = keys.find((key) => key.path.length > 1 && key.path.at(-1) === name);
  if (elsewhere !== undefined) return elsewhere.name;
  const near = nearest(name, [...section.children.keys()]);
  return near === null ? null : section.children.get(near)!.name;
}

/** Puts the environment's values in the place of `${NAME}`; `$${NAME}` stays as `${NAME}`. */
function withVariables(key: Key, { value, file, env }: { value: unknown; file: string; env: Env }): Setting {
  const missing: string[] = [];
  const used: string[] = [];
  const replace = (text: string) =>
    text.replace(/\$?\$\{([^}]*)\}/g, (found, name: string) => {
      if (found.startsWith("$$")) return found.slice(1);
      const replacement = Object.hasOwn(env, name) ? env[name] : undefined;
      used.push(name);
      // An empty variable is what a compose file passes for one that nobody has set.
      if (replacement === undefined || replacement === "") missing.push(name);
      return replacement ?? "";
    });
  let replaced = value;
  if (typeof value === "string") {
    const text = replace(value);
    replaced = used.length > 0 ? fromText(key, text) : text;
  } else if (Array.isArray(value)) {
    replaced = value.map((item) => (typeof item === "string" ? replace(item) : item));
  } else if (isMapping(value)) {
    const entries = Object.entries(value);
    replaced = Object.fromEntries(
      entries.map(([name, item]) => [replace(name), typeof item === "string" ? replace(item) : item]),
    );
  }
  if (missing.length === 0) {
    const origin = used.length > 0 ? `${file}, ${used.map((name) => `\${${name}}`).join(", ")}` : file;
    return { key, value: replaced, origin };
  }
  const expected = `needs the environment variable ${missing.join(", ")}, which is not set${hintFor(missing)}`;
  return { key, value, origin: file, fault: { path: key.name, value: shown(key, value), expected, origin: file } };
}

/** A service manager gives credentials to the unit, and to nobody who runs a command beside it. */
const hintFor = (missing: readonly string[]): string =>
  missing.includes("CREDENTIALS_DIRECTORY")
    ? ": systemd sets it for a unit with LoadCredential=, such as one of systemd-run"
    : "";

const variables = new Map(keys.map((key) => [key.variable, key]));

/** A secret and the file that holds it are one setting: whichever is stronger counts [OPS6]. */
function override(settings: Map<string, Setting>, stronger: readonly Setting[]): void {
  for (const { key, value } of stronger) if (value !== null) settings.delete(key.holds ?? `${key.name}_file`);
  for (const setting of stronger) settings.set(setting.key.name, setting);
}

/** Takes over what the environment says, over what is there already. */
export function gatherEnvironment({ settings, faults }: GatheredSettings, env: Env): void {
  const borrowed: Setting[] = [];
  for (const [variable, name] of borrowedVariables) {
    const text = env[variable];
    if (text === undefined || text === "") continue;
    const key = keysByName.get(name)!;
    borrowed.push({ key, value: fromText(key, text), origin: variable });
  }
  override(settings, borrowed);
  const own: Setting[] = [];
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith("WS__") || text === undefined) continue;
    const key = variables.get(variable);
    if (key !== undefined) {
      own.push({ key, value: fromText(key, text), origin: variable });
      continue;
    }
    const expected = `is not a setting${nearestHint(nearest(variable, [...variables.keys()]))}`;
    faults.push({ path: variable, value: null, expected, origin: "environment" });
  }
  override(settings, own);
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
