/** Finds, reads, overrides and checks the configuration. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import * as v from "valibot";
import { checks } from "./checks.ts";
import { ConfigError, type Fault } from "./faults.ts";
import { type Key, keysByName } from "./keys.ts";
import { type Config, configSchema } from "./schema.ts";
import { readSecretFiles } from "./secret-files.ts";
import { type Env, type GatheredSettings, gatherEnvironment, gatherFile, type Setting } from "./sources.ts";
import { shown } from "./text.ts";
import { parseYaml } from "./yaml.ts";

export interface LoadedConfig {
  config: Config;
  /** Notices for an operator though nothing is wrong: one line each. */
  notices: string[];
  /** The file that was read, as it was named; null for none. */
  file: string | null;
  /** Where each setting that was given came from: `websocket.pong_wait` → the file, or the variable's name. */
  origins: Map<string, string>;
}

const usualFile = "configs/config.yaml";
const fileBytesMax = 1024 * 1024;

const withoutEffect = ["websocket.read_buffer_size", "websocket.write_buffer_size"];

export interface LoadOptions {
  file?: string;
  env: Env;
  cwd: string;
  /** Sections that whoever asks uses; left out: all. Of the others neither variables nor files need to be there. */
  uses?: readonly string[];
  /** False: certificates, keys and secrets that the settings name are not looked at; for who does not use them. */
  checksFiles?: boolean;
}

/**
 * The configuration of `file`, else of `WS_CONFIG`, else of `configs/config.yaml` under `cwd` where it is there, else the
 * defaults; over it `DATABASE_URL`, `REDIS_URL` and `PORT`, over these `WS__SECTION__KEY`.
 * @throws ConfigError with every fault at once
 */
export async function loadConfig(options: LoadOptions): Promise<LoadedConfig> {
  const { env, cwd, uses, checksFiles = true } = options;
  const isUsed = (name: string) => uses === undefined || uses.includes(name.split(".")[0]!);
  const isRead = (name: string) => checksFiles && isUsed(name);
  const gathered: GatheredSettings = { settings: new Map(), faults: [] };
  const named = options.file ?? (env.WS_CONFIG || undefined);
  const file = named ?? (existsSync(resolve(cwd, usualFile)) ? usualFile : null);
  const namedBy = options.file !== undefined ? "--config" : "WS_CONFIG";
  const read =
    file === null ? { tree: null } : await readTree(file, { cwd, origin: named === undefined ? file : namedBy });
  if ("faults" in read) gathered.faults.push(...read.faults);
  else gatherFile(gathered, { tree: read.tree, file: file ?? "", env });
  gatherEnvironment(gathered, env);

  const { settings, faults } = gathered;
  const faulty = new Set<string>();
  for (const { key, fault } of settings.values()) {
    if (fault === undefined) continue;
    // That a file is named counts even where it is not looked at: a port that has a certificate is asked by TLS.
    const isName = key.name.endsWith("_file");
    if (isName ? isRead(key.name) : isUsed(key.name)) faults.push(fault);
    else if (isName) continue;
    faulty.add(key.name);
  }
  const secrets = await readSecretFiles(settings, { cwd, isRead });
  faults.push(...secrets.faults);
  // Not known: no rule can be said to be broken by it.
  for (const name of [...secrets.unknown, ...secrets.faults.map(({ path }) => path)]) faulty.add(name);
  const first = v.safeParse(configSchema, treeOf(settings, faulty));
  if (!first.success) for (const fault of schemaFaults(first.issues, settings, faulty)) faults.push(fault);
  // Without the file its settings are unknown: rules that join settings would only mislead.
  if (!("faults" in read)) {
    const fallen = withSections(faulty, settings);
    const sound = first.success && fallen.size === 0 ? first.output : v.parse(configSchema, treeOf(settings, fallen));
    faults.push(...(await brokenRules(sound, settings, { faulty: fallen, cwd, isRead })));
  }
  if (!first.success || faults.length > 0) throw new ConfigError(faults);

  const notices = withoutEffect.flatMap((name) => {
    const setting = settings.get(name);
    return setting === undefined
      ? []
      : [`${name} (${setting.origin}) has no effect here: Bun sizes its socket buffers itself`];
  });
  notices.push(...secrets.notices, ...noticesOf(first.output));
  const origins = new Map([...settings].map(([name, { origin }]) => [name, origin]));
  return { config: first.output, notices, file, origins };
}

/** Warns of what can be meant, and mostly is not. */
function noticesOf({ auth, storage }: Config): string[] {
  const notices: string[] = [];
  if (storage.url === "sqlite::memory:")
    notices.push("storage.url names no file: what is acknowledged is gone when this process ends");
  if (auth.mode !== "token") return notices;
  if (auth.jwks_url !== null && auth.issuer === null && auth.audience === null) {
    notices.push(
      "auth.issuer and auth.audience are both null: every token that this key server's keys sign is taken, also one for another service",
    );
  }
  const carriesRoles = auth.secret ?? auth.role_map ?? auth.service_secret ?? auth.service_public_key_file;
  if (carriesRoles === null) {
    notices.push(
      "no token carries a role here: set auth.service_secret (or auth.service_public_key_file) for backends, or auth.role_map",
    );
  }
  return notices;
}

async function readTree(
  file: string,
  { cwd, origin }: { cwd: string; origin: string },
): Promise<{ tree: unknown } | { faults: Fault[] }> {
  const fault = (expected: string) => ({ path: file, value: null, expected, origin });
  let text: string;
  try {
    const source = Bun.file(resolve(cwd, file));
    if (source.size > fileBytesMax) return { faults: [fault(`is larger than ${fileBytesMax / 1024 ** 2} MiB`)] };
    text = await source.text();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { faults: [fault(code === "ENOENT" ? "is not there" : `cannot be read (${code ?? error})`)] };
  }
  const read = await parseYaml(text);
  if ("value" in read) return { tree: read.value };
  return { faults: read.faults.map(({ line, reason }) => fault(`is not YAML in line ${line}: ${reason}`)) };
}

/** The settings as the nested mapping that the schema reads, without the faulty ones. */
function treeOf(settings: ReadonlyMap<string, Setting>, faulty: ReadonlySet<string>): Record<string, unknown> {
  const tree: Record<string, unknown> = {};
  for (const { key, value } of settings.values()) {
    if (faulty.has(key.name)) continue;
    let at = tree;
    for (const part of key.path.slice(0, -1)) at = (at[part] ??= {}) as Record<string, unknown>;
    at[key.path.at(-1)!] = value;
  }
  return tree;
}

/** One fault for each wrong value; the settings they are about become `faulty`. */
function schemaFaults(
  issues: readonly v.BaseIssue<unknown>[],
  settings: ReadonlyMap<string, Setting>,
  faulty: Set<string>,
): Fault[] {
  const faults = new Map<string, Fault>();
  for (const issue of issues) {
    const path = (issue.path ?? []).map(({ key }) => String(key));
    const name = path.join(".");
    // Within a list the path ends with an index.
    const key = keysByName.get(name) ?? keysByName.get(path.slice(0, -1).join("."))!;
    const setting = settings.get(key.name);
    // Told already, or taken out because of what was told.
    if (faults.has(name) || (setting !== undefined && setting.fault !== undefined)) continue;
    faulty.add(key.name);
    if (setting === undefined) {
      const origin = siblingsOf(key, settings)[0]?.origin ?? "default";
      faults.set(name, { path: name, value: null, expected: `is missing and ${key.expected}`, origin });
      continue;
    }
    const expected = issue.message.startsWith("must") ? issue.message : key.expected;
    // As it was written: after a step of the schema a duration would be a number of milliseconds.
    const value = shown(key, name === key.name ? setting.value : issue.input);
    faults.set(name, { path: name, value, expected, origin: setting.origin });
  }
  return [...faults.values()];
}

function siblingsOf(key: Key, settings: ReadonlyMap<string, Setting>): Setting[] {
  const section = `${key.path.slice(0, -1).join(".")}.`;
  return [...settings.values()].filter((other) => other.key.name.startsWith(section));
}

/** With a faulty setting that has no default the rest of its section cannot stand either. */
function withSections(faulty: ReadonlySet<string>, settings: ReadonlyMap<string, Setting>): Set<string> {
  const indispensable = [...faulty].map((name) => keysByName.get(name)!).filter((key) => key.fallback === undefined);
  const fallen = indispensable.flatMap((key) => siblingsOf(key, settings).map((sibling) => sibling.key.name));
  return new Set([...faulty, ...fallen]);
}

/** The rules that join settings, on those that are sound; a faulty one stands at its default in `config` and breaks no rule. */
async function brokenRules(
  config: Config,
  settings: ReadonlyMap<string, Setting>,
  { faulty, cwd, isRead }: { faulty: ReadonlySet<string>; cwd: string; isRead: (name: string) => boolean },
): Promise<Fault[]> {
  const broken: Fault[] = [];
  for (const { at, needs, readsFiles = false, find } of checks) {
    if (readsFiles && !isRead(at)) continue;
    if ([at, ...needs].some((name) => faulty.has(name))) continue;
    const expected = await find(config, cwd);
    if (expected === null) continue;
    const setting = settings.get(at);
    const key = keysByName.get(at)!;
    const value = shown(key, setting === undefined ? key.fallback : setting.value);
    broken.push({ path: at, value, expected, origin: setting?.origin ?? "default" });
  }
  return broken;
}
